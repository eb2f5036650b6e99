"""The rules of each part of a policy, by the problems that a person sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.policy.built import BUILT, built_targets, built_tiers, not_built
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.problems import PolicyProblem, PolicyRefused

Write = Callable[..., Path]
PRIMARY = "    url: s3://shop-backups/lifeboat\n    connection: shop_primary\n"
KEYS = "    - {name: worker, kind: local, file: /etc/lifeboat/key}\n"
DATABASE = "    connection: shop_database\n"


def _problems(path: Path) -> list[PolicyProblem]:
    with pytest.raises(PolicyRefused) as caught:
        load_policy(path)
    return list(caught.value.problems)


def _problem(path: Path) -> PolicyProblem:
    (problem,) = _problems(path)
    assert problem.remedy
    return problem


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("    url: http://shop/backups\n", "begins with `s3://`"),
        ("    url: s3://UPPER/x\n", "name of a bucket"),
        ("    url: s3://shop-backups/a\n    price_per_gb_month: -0.01\n", "greater than or equal to 0"),
        ("    url: s3://shop-backups/a\n    price_per_gb_month: .nan\n", "valid decimal"),
        ("    url: s3:///x\n", "name of a bucket"),
        ("    url: s3://shop-backups/a/../b\n", "`..`"),
        ("    url: s3://shop-backups/a//b\n", "empty part"),
        ("    url: s3://shop-backups/a?x=1\n", "`?`"),
        ("    url: s3://key:secret@shop-backups/a\n", "no credentials"),
        ("    url: file://host/dir\n    marker: m\n", "names no host"),
        ("    url: file:///\n    marker: m\n", "directory of its own"),
        ("    url: file:///srv/backups\n", "neither `marker` nor `queue`"),
        ("    url: file:///srv/backups\n    marker: m\n    verify: store\n", "no checksum"),
        ("    url: file:///srv/backups\n    marker: m\n    sse: AES256\n", "Only an `s3://`"),
        ("    url: s3://shop-backups/a\n    marker: m\n", "Only a `file://`"),
        ("    url: sftp://shop.example.com/backups\n", "needs a `connection`"),
        ("    url: sftp://shop.example.com\n    connection: c\n", "needs a directory"),
        ("    url: sftp://shop.example.com:x/backups\n    connection: c\n", "not a host"),
        ("    url: sftp://me@shop.example.com/backups\n    connection: c\n", "no credentials"),
        ("    url: sftp://shop.example.com/backups\n    connection: c\n    verify: store\n", "no checksum"),
        ("    url: s3://shop-backups/a\n    sse_kms_key: k\n", "needs `sse: aws:kms`"),
        ("    url: s3://shop-backups/a\n    storage_class: DEEP_ARCHIVE\n", "thawing"),
        ("    url: s3://shop-backups/a\n    required: false\n", "always required"),
    ],
)
def test_targets_that_cannot_work_are_refused(write: Write, target: str, words: str) -> None:
    problem = _problem(write("shop.yaml", (PRIMARY, target)))
    assert words in problem.what
    assert problem.key.startswith("targets.primary")
    assert "secret" not in str(problem)


def test_a_url_says_where_a_target_is(write: Write) -> None:
    local = "  local: {url: 'file:///srv/my%20backups/', marker: m-1, retention: 7d}\n"
    policy = load_policy(write("shop.yaml", (PRIMARY, PRIMARY + local))).policy
    assert (policy.primary.scheme, policy.primary.bucket, policy.primary.prefix) == ("s3", "shop-backups", "lifeboat")
    assert policy.targets["local"].directory == Path("/srv/my backups")
    assert policy.targets["local"].url == "file:///srv/my%20backups"


def test_a_policy_without_a_primary_target_is_refused(write: Write) -> None:
    assert "no target `primary`" in _problem(write("shop.yaml", ("  primary:", "  first:"))).what


def test_two_targets_at_one_place_are_refused(write: Write) -> None:
    twin = "  offsite: {url: s3://shop-backups/lifeboat/, connection: shop_primary}\n"
    problem = _problem(write("shop.yaml", (PRIMARY, PRIMARY + twin)))
    assert "`primary` and `offsite` are one and the same place" in problem.what
    assert problem.line == 10


def test_targets_that_are_not_built_get_a_notice_and_are_not_written_to(write: Write) -> None:
    others = "  blue: {url: azure://account/container}\n"
    loaded = load_policy(write("shop.yaml", (PRIMARY, PRIMARY + others)))
    assert [notice for notice in loaded.notices if "Target" in notice] == [
        "Target `blue` (`azure://`) is validated, not built yet: nothing is copied there.",
    ]
    assert list(built_targets(loaded.policy)) == ["primary"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("{name: worker, kind: local}", "exactly one"),
        ("{name: worker, kind: local, file: /a, connection: b}", "exactly one"),
        ("{name: worker, kind: rsa_public}", "exactly one"),
        ("{name: safe, kind: local, file: /a}", "Two keys are called `safe`"),
        ("{name: aws-kms-1, kind: local, file: /a}", "keeps `aws-kms`"),
        ("{name: worker, kind: aws_kms, key_id: alias/shop}", "ARN of the key"),
        ("{name: worker, kind: rsa_public, public_key: nonsense}", "no public key"),
        ("{name: worker, kind: rsa_public, public_key: -----BEGIN PRIVATE KEY-----}", "private key"),
        ("{name: worker, kind: paper}", "`kind`"),
    ],
)
def test_keys_that_cannot_work_are_refused(write: Write, key: str, words: str) -> None:
    problem = _problem(write("shop.yaml", (KEYS, f"    - {key}\n")))
    assert words in problem.what
    assert problem.key.startswith("encryption.keys")


def test_a_single_key_must_be_accepted_by_name(write: Write) -> None:
    problem = _problem(write("shop.yaml", (KEYS, "")))
    assert "only key" in problem.what
    assert "accept_single_key: true" in problem.remedy
    accepted = write("shop.yaml", (KEYS, ""), ("encryption:\n", "encryption:\n  accept_single_key: true\n"))
    assert len(load_policy(accepted).policy.encryption.keys) == 1


def test_keys_that_are_all_optional_are_refused(write: Write) -> None:
    path = write(
        "shop.yaml",
        ("file: /etc/lifeboat/key}", "file: /k, optional: true}"),
        ("safe.pem}", "safe.pem, optional: true}"),
    )
    assert "All keys are optional" in _problem(path).what


def test_a_small_break_glass_key_is_refused_and_a_large_one_kept(write: Write) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    def _pem(bits: int) -> str:
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        text = key.public_bytes(serialization.Encoding.PEM, form).decode()
        return "".join(f"        {line}\n" for line in text.splitlines())

    entry = "    - name: worker\n      kind: rsa_public\n      public_key: |\n"
    assert "3072 bits or more" in _problem(write("shop.yaml", (KEYS, entry + _pem(2048)))).what
    assert load_policy(write("shop.yaml", (KEYS, entry + _pem(3072)))).policy.encryption.keys[0].name == "worker"


@pytest.mark.parametrize(
    ("old", "new", "words", "line"),
    [
        ("key_id: shop-2026", "key_id: shop-2025", "not among the trusted", 16),
        ("key: {connection: shop_signing}", "key: {}", "exactly one", 15),
        ("public_key: w3mSWX3PlnZlIBRlVadDh0fuXc6Odn4GHf8pV86lNJw=", "public_key: c2hvcnQ=", "32 raw bytes", 19),
        ("valid_from: 2026-01-01T00:00:00Z", "valid_from: 2026-01-01T00:00:00", "no time zone", 20),
        (
            "valid_from: 2026-01-01T00:00:00Z",
            "valid_from: 2026-01-01T00:00:00Z\n      valid_until: 2025-01-01T00:00:00Z",
            "ends before",
            21,
        ),
    ],
)
def test_signatures_that_nobody_could_believe_are_refused(
    write: Write, old: str, new: str, words: str, line: int
) -> None:
    problem = _problem(write("shop.yaml", (old, new)))
    assert words in problem.what
    assert problem.line == line


@pytest.mark.parametrize(
    ("tiers", "words", "key"),
    [
        ("wal: {retention: 1d}", "there is none", "wal"),
        ("incremental: {retention: 1d}", "there is none", "incremental"),
        ("wal: {retention: 1d}, daily: {retention: 1d, method: logical}", "there is none", "wal"),
        ("wal: {retention: 1d, method: logical}, daily: {retention: 1d}", "physical by nature", "wal.method"),
        ("export: {retention: 1d, method: physical}", "logical by nature", "export.method"),
        ("dayly: {retention: 1d}", "none of the words", "dayly"),
        ("daily: {retention: 0d}", "nothing is not possible", "daily.retention"),
        ("daily: {retention: 30}", "needs its unit", "daily.retention"),
        ("daily: {retention: 30d, timeout: 1 month}", "must be exact", "daily.timeout"),
        ("daily: {retention: 30d, schedule: '0 1 1-7 * 1'}", "either of them", "daily.schedule"),
    ],
)
def test_tiers_that_cannot_work_are_refused(write: Write, tiers: str, words: str, key: str) -> None:
    text = write("shop.yaml").read_text()
    path = write("shop.yaml", text=text[: text.index("    tiers:")] + f"    tiers: {{{tiers}}}\n")
    problem = _problem(path)
    assert words in problem.what
    assert problem.key == f"sources.database.tiers.{key}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    tls: sometimes\n", "none of the words"),
        ("    slot: Upper\n", "form that it needs"),
        (f"    slot: {'s' * 64}\n", "form that it needs"),
        ("    max_rate: 100 MiB\n", "size for each second"),
        ("    max_rate: 1 KiB/s\n", "between 32 KiB/s and 1 GiB/s"),
        ("    binaries: ${LIFEBOAT_NOWHERE}/bin\n", "`LIFEBOAT_NOWHERE` is not set"),
    ],
)
def test_wrong_settings_of_a_database_are_refused(write: Write, line: str, words: str) -> None:
    problem = _problem(write("shop.yaml", (DATABASE, DATABASE + line)))
    assert words in problem.what
    assert problem.line == 25


def test_words_that_yaml_1_1_takes_for_other_things_stay_what_they_are(write: Write) -> None:
    path = write("shop.yaml", (DATABASE, DATABASE + "    tls: off\n    tls_minimum: 1.2\n    max_rate: 1 GiB/s\n"))
    source = load_policy(path).policy.sources["database"]
    assert isinstance(source, PostgresSource)
    assert (source.tls, source.tls_minimum, source.max_rate) == ("off", "1.2", 2**30)


@pytest.mark.parametrize(("system", "source"), [("shop", "database"), ("s" * 48, "d" * 48)])
def test_the_slot_has_a_name_that_postgresql_takes(write: Write, system: str, source: str) -> None:
    database = load_policy(write()).policy.sources["database"]
    assert isinstance(database, PostgresSource)
    name = database.slot_name(system, source)
    assert name.startswith(f"lifeboat_{system[:40]}")
    assert len(name) <= 63
    assert name != database.slot_name(system, source[:-1] + "x")


def test_a_slot_of_ones_own_is_taken(write: Write) -> None:
    database = load_policy(write("shop.yaml", (DATABASE, DATABASE + "    slot: mine\n"))).policy.sources["database"]
    assert isinstance(database, PostgresSource)
    assert database.slot_name("shop", "database") == "mine"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("system: shop", "system: shop\ntimezone: Mars/Olympus", "no time zone"),
        ("system: shop", "system: shop\ntimezone: Europe", "no time zone"),
        ("system: shop", "system: shop\nstreams: {volume_size: 1 KiB}", "between 1 MiB and 1 TiB"),
        ("system: shop", "system: shop\nstreams: {compression_level: 20}", "less than or equal to 19"),
        ("system: shop", "system: shop\nrestore: {approvals: 2, approvers: [ann]}", "no restore could ever begin"),
        ("system: shop", "system: shop\nrestore: {approvers: [ann, ann]}", "named twice"),
        ("system: shop", "system: shop\ncontacts: {primary: {name: Ann}}", "can't be reached"),
        ("system: shop", "system: shop\ncontacts: {primary: {name: Ann, phone: 12345}}", "no text"),
        ("system: shop", "system: shop\nalerts: {conditions: {storage_over: 80}}", "in percent"),
        ("system: shop", "system: shop\nretention: {most_deleted: 101%}", "between 1% and 100%"),
        ("system: shop", "system: shop\ntests: {schedule: '0 6 1-7 * 1'}", "either of them"),
        (
            "system: shop",
            "system: shop\nreviews: {version: x, last: 2026-01-02, next: 2026-01-01, every: 1d}",
            "not after",
        ),
        (
            "system: shop",
            "system: shop\nbudget: {currency: USD, limit: 1, lines: {a: {storage: 1 GB, cost: 1.5}}}",
            "add up to 1.5",
        ),
        ("  rpo: 15m", "  rpo: 1 month", "must be exact"),
        ("  rpo: 15m", "  rpo: 15m\n  sources: {databse: {rpo: 1h}}", "no source `databse`"),
        ("format_version: 1", "format_version: 2", "none of the words"),
    ],
)
def test_what_cannot_be_kept_is_refused(write: Write, old: str, new: str, words: str) -> None:
    assert words in _problem(write("shop.yaml", (old, new))).what


def test_objectives_of_a_source_go_before_those_of_the_system(write: Write) -> None:
    path = write("shop.yaml", ("  rpo: 15m", "  rpo: 15m\n  sources: {database: {rpo: 1h}}"))
    objectives = load_policy(path).policy.objectives
    assert objectives.rpo_of("database").total_seconds() == 3600
    assert objectives.rpo_of("other").total_seconds() == 900
    assert objectives.rto_of("database").total_seconds() == 4 * 3600


def test_every_kind_of_source_runs_and_one_that_would_not_is_named(write: Write) -> None:
    others = (
        "  files:\n    kind: files\n    url: file:///srv/files\n    queue: shop\n    tiers:\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
        "  far:\n    kind: files\n    url: s3://files-bucket\n    tiers:\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
        "  mirror:\n    kind: code\n    repositories: ['https://git.example.com/x']\n    tiers:\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
        "  settings:\n    kind: configuration\n    files: [/etc/shop]\n    queue: shop\n    tiers:\n"
        "      change: {schedule: '*/15 * * * *', retention: 30d}\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
    )
    text = write().read_text() + others
    policy = load_policy(write("shop.yaml", text=text)).policy
    daily = [(name, Tier.DAILY) for name in ("files", "far", "mirror")]
    settings = [("settings", Tier.CHANGE), ("settings", Tier.DAILY)]
    assert list(built_tiers(policy)) == [("database", Tier.WAL), ("database", Tier.DAILY), *daily, *settings]
    fewer = replace(BUILT, tiers={kind: tiers for kind, tiers in BUILT.tiers.items() if kind != "code"})
    said = not_built(policy, fewer)
    assert "Source `mirror` (code) is validated, not built yet: nothing of it is backed up." in said


def test_versions_of_files_that_no_tier_keeps_so_long_are_refused(write: Write) -> None:
    files = (
        "  files:\n    kind: files\n    url: file:///srv/files\n    queue: shop\n    versions: 40d\n    tiers:\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
    )
    with pytest.raises(PolicyRefused, match="no tier keeps its snapshots so long"):
        load_policy(write("shop.yaml", text=write().read_text() + files))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{kind: files, url: file:///srv/files, tiers: {daily: {retention: 1d}}}", "seen by some workers only"),
        ("{kind: files, url: sftp://files.example.com/srv, tiers: {daily: {retention: 1d}}}", "needs a `connection`"),
        (
            "{kind: files, url: file:///srv/files, queue: q, connection: c, tiers: {daily: {retention: 1d}}}",
            "has no connection",
        ),
        ("{kind: files, url: s3://files-bucket, tiers: {wal: {retention: 1d}}}", "has no tier `wal`"),
        ("{kind: files, url: s3://files-bucket, tiers: {daily: {retention: 1d, method: logical}}}", "`method`"),
        ("{kind: files, url: s3://files-bucket, include: [/etc], tiers: {daily: {retention: 1d}}}", "relative"),
        (
            "{kind: code, repositories: ['https://me:pw@git.example.com/x'], tiers: {daily: {retention: 1d}}}",
            "no credentials",
        ),
        ("{kind: code, repositories: ['ftp://git.example.com/x'], tiers: {daily: {retention: 1d}}}", "begins with"),
        (
            "{kind: configuration, secrets: [{store: paper, connection: c, names: [a]}], "
            "tiers: {daily: {retention: 1d}}}",
            "none of the words",
        ),
        ("{kind: configuration, files: [/etc/erp], tiers: {daily: {retention: 1d}}}", "seen by some workers only"),
        ("{kind: configuration, queue: q, files: [etc/erp], tiers: {daily: {retention: 1d}}}", "no absolute path"),
        ("{kind: configuration, queue: q, files: [/], tiers: {daily: {retention: 1d}}}", "root of the file system"),
        ("{kind: configuration, queue: q, files: [/etc/../x], tiers: {daily: {retention: 1d}}}", "no absolute path"),
        ("{kind: configuration, tiers: {daily: {retention: 1d}}}", "Nothing is named"),
        ("{kind: configuration, airflow_variables: [a], tiers: {change: {retention: 1d}}}", "run out"),
        (
            "{kind: configuration, airflow_variables: [a], watch: true, tiers: {daily: {retention: 1d}}}",
            "nothing to watch",
        ),
        ("{kind: configuration, airflow_variables: [a], tiers: {wal: {retention: 1d}}}", "has no tier `wal`"),
        (
            "{kind: configuration, secrets: [{store: aws_secrets_manager, connection: c, names: [a], mount: m}], "
            "tiers: {daily: {retention: 1d}}}",
            "Only Vault",
        ),
        (
            "{kind: configuration, secrets: [{store: vault, connection: c, names: [a, a]}], "
            "tiers: {daily: {retention: 1d}}}",
            "named twice",
        ),
        (
            "{kind: configuration, infrastructure: [{url: 's3://bucket', connection: c}], "
            "tiers: {daily: {retention: 1d}}}",
            "names no object",
        ),
        ("{kind: files, url: s3://files-bucket, tiers: {change: {retention: 1d}}}", "has no tier `change`"),
        ("{tiers: {daily: {retention: 1d}}}", "what `kind` it is"),
    ],
)
def test_other_sources_that_cannot_work_are_refused(write: Write, source: str, words: str) -> None:
    text = write().read_text() + f"  other: {source}\n"
    assert words in _problem(write("shop.yaml", text=text)).what


@pytest.mark.parametrize(
    ("source", "connection", "target", "apart"),
    [
        ("s3://bucket", "c", "s3://bucket/lifeboat", False),
        ("s3://bucket/lifeboat", "c", "s3://bucket/lifeboat", False),
        ("s3://bucket/lifeboat/erp", "c", "s3://bucket/lifeboat", False),
        ("s3://bucket/life", "c", "s3://bucket/lifeboat", True),
        ("s3://bucket/lifeboat2", "c", "s3://bucket/lifeboat", True),
        ("s3://buckets", "c", "s3://bucket/lifeboat", True),
        ("s3://bucket/lifeboat", "other", "s3://bucket/lifeboat", True),
        ("sftp://host/srv", "other", "sftp://host:22/srv/lifeboat", False),
        ("sftp://host/srv/lifeboat/erp", "c", "sftp://host/srv/lifeboat", False),
        ("sftp://host:2222/srv", "c", "sftp://host/srv/lifeboat", True),
        ("sftp://host/srv/files", "c", "sftp://host/srv/lifeboat", True),
    ],
)
def test_a_set_of_files_and_a_target_that_lie_within_each_other_are_refused(
    write: Write, source: str, connection: str, target: str, apart: bool
) -> None:
    text = write().read_text() + (
        f"  files:\n    kind: files\n    url: {source}\n    connection: {connection}\n    tiers:\n"
        "      daily: {schedule: '0 3 * * *', retention: 30d}\n"
    )
    more = f"targets:\n  own: {{url: '{target}', connection: c}}\n"
    assert "targets:\n" in text
    path = write("shop.yaml", text=text.replace("targets:\n", more, 1))
    if apart:
        load_policy(path)
    else:
        problem = _problem(path)
        assert "back up its own backups" in problem.what
        assert problem.key == "sources.files.url"
