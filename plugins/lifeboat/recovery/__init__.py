"""Recovery that is rehearsed: restore tests, and the evidence of them."""
