import pytest

from sandbox import erp
from sandbox.accounts import SandboxError
from sandbox.erp_writer import CONNECTION_LOST, Writer, ledger_numbers


@pytest.fixture
def small_erp(postgres):
    erp.fill(postgres, megabytes=2)
    return postgres


def test_a_fill_is_as_large_as_asked_and_hangs_together(postgres):
    size = erp.fill(postgres, megabytes=30)
    assert 30_000_000 <= size <= 45_000_000
    counts = postgres.run_sql(
        "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM invoices),"
        " (SELECT count(*) FROM invoice_lines), (SELECT count(*) FROM payments), (SELECT count(*) FROM attachments),"
        " (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated)",
        database="erp",
    )[0]
    assert all(count > 0 for count in counts)
    assert counts[5] == 5


def test_the_writer_goes_on_after_the_rows_of_a_fill(small_erp, tmp_path):
    with Writer(small_erp, tmp_path, rate=200) as writer:
        writer.wait_for(20)
    assert writer.child.returncode == 0
    numbers = [commit.number for commit in writer.commits()]
    assert numbers == list(range(1, len(numbers) + 1))
    with small_erp.connect(database="erp") as session:
        assert ledger_numbers(session) == numbers


def test_the_moment_of_each_commit_lies_between_the_two_that_are_recorded(make_postgres, tmp_path):
    server = make_postgres(settings={"track_commit_timestamp": "on"})
    erp.fill(server, megabytes=2)
    with Writer(server, tmp_path, rate=200) as writer:
        writer.wait_for(20)
    commits = {commit.number: commit for commit in writer.commits()}
    moments = server.run_sql(
        "SELECT commit_number, pg_xact_commit_timestamp(xmin) FROM ledger ORDER BY 1", database="erp"
    )
    assert len(moments) == len(commits)
    for number, moment in moments:
        assert commits[number].before <= moment <= commits[number].after
    assert commits[7].after <= writer.moment_after(7) <= commits[8].before
    with pytest.raises(SandboxError, match="not both known"):
        writer.moment_after(len(commits))


def test_after_a_crash_of_the_server_the_writer_says_which_commits_are_done(small_erp, tmp_path):
    writer = Writer(small_erp, tmp_path, rate=200)
    writer.start()
    writer.wait_for(10)
    small_erp.kill()
    assert writer.child.wait(30) == CONNECTION_LOST
    small_erp.start()
    done = [commit.number for commit in writer.commits()]
    with small_erp.connect(database="erp") as session:
        held = ledger_numbers(session)
    assert held[: len(done)] == done
    assert set(held) - set(done) <= {writer.in_doubt()}


def test_a_torn_commit_is_noticed(small_erp, tmp_path):
    with Writer(small_erp, tmp_path, rate=200) as writer:
        writer.wait_for(3)
    with small_erp.connect(database="erp") as session:
        session.execute(
            "DELETE FROM payments WHERE invoice_id = (SELECT invoice_id FROM ledger WHERE commit_number = 2)"
        )
        with pytest.raises(SandboxError, match="Commit 2 is there in part"):
            ledger_numbers(session)
