"""Which recovery points stay, which go, and why: pure functions of what the targets hold, the policy and the clock."""
