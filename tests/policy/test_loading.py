from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from lifeboat.errors import PolicyError
from lifeboat.policy.loading import load_policies, load_policy
from lifeboat.policy.problems import PolicyRefused

Write = Callable[..., Path]


def _problems(path: Path) -> list[str]:
    with pytest.raises(PolicyRefused) as caught:
        load_policy(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_valid_policy_is_loaded_with_its_text_and_digest(write: Write) -> None:
    path = write()
    loaded = load_policy(path)
    assert loaded.policy.system == "shop"
    assert loaded.text == path.read_text()
    assert loaded.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert not loaded.stale


def test_a_policy_never_changes_after_loading(write: Write) -> None:
    policy = load_policy(write()).policy
    with pytest.raises(ValidationError):
        policy.system = "other"  # type: ignore[misc]


def test_all_problems_come_at_once_with_line_key_and_remedy(write: Write) -> None:
    path = write(
        "shop.yaml",
        ("rto: 4h", "rto: soon"),
        ("    connection: shop_primary", "    conection: shop_primary"),
        ('"0 2 * * *"', '"0 26 * * *"'),
        ("retention: 30d}\n", "retention: 30d, tries: 3}\n"),
    )
    assert _problems(path) == [
        "4: objectives.rto: `soon` is no duration. Write a whole number and a unit, such as `15m`, `4h`, `30d`, "
        "`1 week`, `12 months` or `7 years`.",
        "9: targets.primary.conection: `conection` is no key here. Did you mean `connection`?",
        "27: sources.database.tiers.daily.schedule: This is no cron line: [0 26 * * *] is not acceptable, "
        "out of range. The fields are minute, hour, day of the month, month, day of the week; an example: `0 2 * * *`.",
        "27: sources.database.tiers.daily.tries: `tries` is no key here. Did you mean `retries`?",
    ]


def test_a_missing_key_is_named_at_the_part_that_misses_it(write: Write) -> None:
    assert _problems(write("shop.yaml", ("  key_id: shop-2026\n", ""))) == [
        "14: signing.key_id: `key_id` is missing. Add it."
    ]


def test_an_unknown_key_that_resembles_none_lists_those_that_are_known(write: Write) -> None:
    (problem,) = _problems(write("shop.yaml", ("  rto: 4h", "  rto: 4h\n  zzz: 1")))
    assert problem == "5: objectives.zzz: `zzz` is no key here. Known here: `rpo`, `rto`, `sources`."


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "no keys and values"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: 1\nb: */5 * * * *\n", 2, "stands in quotes"),
        ("a: 1\n\tb: 2\n", 2, "never with tabs"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("a: &x [*x]\n", 1, "aliases never end"),
        ("a: !!python/object:os.system x\n", 1, "has no meaning here"),
        ("? [a, b]\n: 1\n", 1, "plain word"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "plain word"),
        ("a: {b: ${HOME}/x}\n", 1, "`${NAME}` stands in quotes"),
        ("a: \x07\n", 0, "not YAML"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(write: Write, text: str, line: int, words: str) -> None:
    path = write("shop.yaml", text=text)
    with pytest.raises(PolicyRefused) as caught:
        load_policy(path)
    (problem,) = caught.value.problems
    assert words in f"{problem.what} {problem.remedy}"
    assert problem.line == line


def test_aliases_of_aliases_do_not_exhaust_the_memory(write: Write) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "aliases never end" in _problems(write("shop.yaml", text=text))[0]


def test_an_alias_repeats_what_it_stands_for(write: Write) -> None:
    path = write(
        "shop.yaml",
        ("retention: 30d, expected_run: 4m", "retention: &keep 30d, expected_run: 4m"),
        ("retention: 30d}", "retention: *keep}"),
    )
    tiers = load_policy(path).policy.sources["database"].tiers
    assert tiers["wal"].retention == tiers["daily"].retention  # type: ignore[index]


def test_keys_that_stand_twice_are_all_named(write: Write) -> None:
    path = write("shop.yaml", ("system: shop", "system: shop\nsystem: other"), ("  rpo: 15m", "  rpo: 15m\n  rto: 1h"))
    assert _problems(path) == [
        "3: system: It is there already, on line 2. Keep one of the two.",
        "7: objectives.rto: It is there already, on line 5. Keep one of the two.",
    ]


def test_bytes_that_are_not_utf_8_are_named_with_their_line(policies: Path) -> None:
    path = policies / "shop.yaml"
    path.write_bytes(b"format_version: 1\ndescription: caf\xe9\n")
    assert _problems(path) == ["2: It is not UTF-8. Save it as UTF-8."]


def test_a_file_with_a_byte_order_mark_or_other_line_ends_is_read(policies: Path, minimal: str) -> None:
    path = policies / "shop.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + minimal.replace("\n", "\r\n").encode())
    loaded = load_policy(path)
    assert loaded.policy.system == "shop"
    assert loaded.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_file_far_too_large_is_refused(policies: Path) -> None:
    path = policies / "shop.yaml"
    path.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(PolicyError, match="larger than 1 MiB"):
        load_policy(path)


def test_a_file_that_is_not_there_is_a_policy_error(policies: Path) -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        load_policy(policies / "shop.yaml")


def test_a_private_key_in_the_wrong_place_is_not_repeated_in_the_error(write: Write) -> None:
    path = write("shop.yaml", ("file: /etc/lifeboat/key}", "fil: MC4CAQAwBQYDK2VwBCIEIJ}"))
    with pytest.raises(PolicyRefused) as caught:
        load_policy(path)
    assert "MC4CAQAwBQYDK2VwBCIEIJ" not in str(caught.value)
    assert "MC4CAQAwBQYDK2VwBCIEIJ" not in repr(caught.value.__cause__)


def test_variables_of_the_environment_are_put_in_and_remembered(write: Write) -> None:
    path = write(
        "shop.yaml", ("s3://shop-backups", "s3://${BUCKET}"), ("file: /etc/lifeboat/key", "file: '${KEYS}/key'")
    )
    loaded = load_policy(path, environment={"BUCKET": "from-outside", "KEYS": "/keys", "OTHER": "secret"})
    assert loaded.policy.primary.bucket == "from-outside"
    assert loaded.environment == {"BUCKET": "from-outside", "KEYS": "/keys"}
    assert loaded.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("value", [{}, {"BUCKET": ""}])
def test_a_variable_that_is_not_set_is_named_with_line_and_remedy(write: Write, value: dict[str, str]) -> None:
    path = write("shop.yaml", ("s3://shop-backups", "s3://${BUCKET}"))
    with pytest.raises(PolicyRefused) as caught:
        load_policy(path, environment=value)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (path, 8, "targets.primary.url")
    assert "`BUCKET` is not set" in problem.what
    assert "DAG processor" in problem.remedy


def test_a_reference_that_is_none_is_refused(write: Write) -> None:
    (problem,) = _problems(write("shop.yaml", ("s3://shop-backups", "s3://${shop-backups}")))
    assert "begins no reference" in problem


def test_a_directory_without_policies_gives_none_and_a_notice(policies: Path) -> None:
    (policies / "README.md").write_text("nothing here")
    (policies / ".hidden.yaml").write_text("nothing here")
    loaded = load_policies(policies)
    assert loaded.policies == {}
    assert loaded.problems == ()
    assert "nothing is backed up" in loaded.notices[0]


def test_a_directory_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    loaded = load_policies(tmp_path / "nowhere")
    assert loaded.policies == {}
    assert not loaded.complete
    assert "can't be read" in loaded.problems[0].what


def test_a_broken_policy_leaves_the_good_one_alone(write: Write) -> None:
    write()
    broken = write("broken.yaml", ("system: shop", "system: broken"), ("rto: 4h", "rto: 4"))
    loaded = load_policies(broken.parent)
    assert set(loaded.policies) == {"shop"}
    assert [(problem.file, problem.line) for problem in loaded.problems] == [(broken, 4)]
    assert loaded.refused == {"broken": broken}


def test_the_problems_of_all_files_come_at_once(write: Write) -> None:
    for name in ("one", "two"):
        directory = write(
            f"{name}.yaml", ("system: shop", f"system: {name}"), ("rto: 4h", "rto: 4"), ("rpo: 15m", "rpo: 15")
        ).parent
    assert len(load_policies(directory).problems) == 4


def test_two_files_of_one_system_are_both_refused_by_name(write: Write) -> None:
    write()
    directory = write("copy.yaml").parent
    loaded = load_policies(directory)
    assert loaded.policies == {}
    assert {problem.file.name for problem in loaded.problems} == {"shop.yaml", "copy.yaml"}
    for problem in loaded.problems:
        assert "`copy.yaml` and `shop.yaml` all say that they are system `shop`" in problem.what
        assert problem.line == 2


def test_a_file_must_be_called_as_its_system(write: Write) -> None:
    path = write("other.yaml")
    assert "Rename the file to `shop.yaml`" in _problems(path)[0]
    loaded = load_policies(path.parent)
    assert loaded.policies == {}
    assert loaded.refused["shop"] == path


def test_a_file_ending_in_yml_is_not_overlooked(write: Write) -> None:
    loaded = load_policies(write("shop.yml").parent)
    assert loaded.policies == {}
    assert "ends in `.yaml`" in loaded.problems[0].what


def test_a_dangling_link_is_not_overlooked(policies: Path) -> None:
    (policies / "shop.yaml").symlink_to(policies / "gone")
    (problem,) = load_policies(policies).problems
    assert "can't be read" in problem.what


def test_systems_whose_dags_would_collide_are_both_refused(write: Write) -> None:
    write("shop.yaml")
    write("a_b.yaml", ("system: shop", "system: a_b"), ("  database:", "  c:"))
    directory = write("a.yaml", ("system: shop", "system: a"), ("  database:", "  b_c:")).parent
    loaded = load_policies(directory)
    assert set(loaded.policies) == {"shop"}
    assert {problem.file.name for problem in loaded.problems} == {"a.yaml", "a_b.yaml"}
    for problem in loaded.problems:
        assert "system `a`, source `b_c` and system `a_b`, source `c`" in problem.what
        assert problem.line == 21


def test_connections_are_all_named_and_those_of_one_source(write: Write) -> None:
    text = write().read_text() + "alerts:\n  channels:\n    slack: {kind: slack, connection: shop_slack}\n"
    loaded = load_policy(write("shop.yaml", text=text))
    assert loaded.connections() == {"shop_primary", "shop_signing", "shop_database", "shop_slack"}
    assert loaded.connections("database") == {"shop_primary", "shop_signing", "shop_database"}


def test_a_hundred_policies_are_read_without_a_heavy_import(policies: Path, minimal: str) -> None:
    for number in range(100):
        name = f"system{number}"
        (policies / f"{name}.yaml").write_text(minimal.replace("system: shop", f"system: {name}"))
    code = (
        "import sys; from pathlib import Path; from lifeboat.policy.loading import load_policies\n"
        "import lifeboat.policy.last_valid, lifeboat.policy.checking, lifeboat.policy.schema\n"
        "loaded = load_policies(Path(sys.argv[1])); assert not loaded.problems; print(len(loaded.policies))\n"
        "heavy = {'boto3', 'botocore', 'psycopg', 'aws_encryption_sdk', 'airflow', 'cryptography'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(policies)], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "100\n", "")
