"""Checks an archive of evidence without Lifeboat: signatures, names, digests, and that nothing stands alone.

    python check_evidence.py ARCHIVE TRUSTED_KEYS

ARCHIVE       a file that `lifeboat report evidence` has made
TRUSTED_KEYS  the public keys that may have signed, in JSON: systems/<system>.json of a recovery kit, or the policy's
              list signing.trusted. Get it from the owners, apart from the archive; without it the archive's own keys
              are used, and whoever forges an archive puts his own there

Prints a line for each record and for each fault. Only exit code 0 says that there is no fault. Needs Python 3.11 and
the package cryptography.
"""

import base64
import hashlib
import json
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

RECORD, EVENT = "records/{0:%Y%m%dT%H%M%SZ}-{kind}-{mark}.json", "events/{0:%Y%m%dT%H%M%S.%fZ}-{run}-{number:04}.json"
NEVER, parse = "9999-12-31T00:00:00Z", datetime.fromisoformat
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def genuine(name: str, form: str, begin: str, signed: str) -> dict:
    try:
        document = json.loads(files[name])
        key, whole, at = keys[document["key_id"]], canonical(document) + "\n", parse(document[signed])
        own = form.format(parse(document[begin]).astimezone(UTC), **document).replace("_", "-")
        public, signature = (base64.b64decode(text) for text in (key["public_key"], document.pop("signature")))
        Ed25519PublicKey.from_public_bytes(public).verify(signature, canonical(document).encode())
        wrong = [] if parse(key["valid_from"]) <= at < parse(key["valid_until"] or NEVER) else ["its key was not valid"]
        wrong += [] if files[name] == whole.encode() else ["it is not written as it was signed"]
        wrong += [] if name == own else [f"it belongs under the name {own}"]
    except Exception as error:
        wrong = [f"no trusted key has signed it as it is: {error!r}"]
    faults.extend(f"FAULT   {name}: {what}" for what in wrong)
    return {} if wrong else document


with tarfile.open(sys.argv[1]) as archive:
    files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
given = json.loads(Path(sys.argv[2]).read_bytes() if sys.argv[2:] else files["keys.json"])
keys = {key["id"]: {"valid_until": ""} | key for key in (given["trusted_keys"] if isinstance(given, dict) else given)}
faults = [] if sys.argv[2:] else ["WARNING keys.json of the archive was believed: ask the owners for the trusted keys"]
records = {name: genuine(name, RECORD, "begun", "ended") for name in sorted(files) if name.startswith("records/")}
events = [genuine(name, EVENT, "time", "time") for name in sorted(files) if name.startswith("events/")]
said = {(f"records/{one['details'].get('record')}.json", one["details"].get("sha256")) for one in events if one}
held = {(name, hashlib.sha256(files[name]).hexdigest()) for name in records}
faults += [f"FAULT   {name}: announced, but not here as it was announced" for name, _ in sorted(said - held)]
faults += [f"FAULT   {name}: here, but no event announces it as it is" for name, _ in sorted(held - said)]
lines = [f"{'passed' if one['passed'] else 'FAILED'}  {name}  {one['system']}" for name, one in records.items() if one]
lines += [*faults, f"{len(records)} records, {len(events)} events"]
sys.stdout.write("".join(f"{line!r}"[1:-1] + "\n" for line in lines))
sys.exit(any(fault.startswith("FAULT") for fault in faults))
