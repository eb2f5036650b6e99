import httpx
import pytest

from sandbox.slack import SlackReceiver


@pytest.fixture
def slack(tmp_path):
    with SlackReceiver(tmp_path / "slack") as receiver:
        yield receiver


def test_a_message_is_answered_with_ok_and_kept_with_its_words(slack):
    payload = {"text": "short", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "at length"}}]}
    answer = httpx.post(slack.url, json=payload)
    assert (answer.status_code, answer.text) == (200, "ok")
    (message,) = slack.messages()
    assert message.payload == payload
    assert message.text.split("\n") == ["short", "at length"]


@pytest.mark.parametrize(
    ("path", "content", "code", "text"),
    [
        ("", b"not JSON", 400, "invalid_payload"),
        ("", b'{"channel": "#alerts"}', 400, "no_text"),
        ("x", b'{"text": "hello"}', 404, "no_service"),
    ],
)
def test_what_slack_would_refuse_is_refused_and_not_kept(slack, path, content, code, text):
    answer = httpx.post(slack.url + path, content=content)
    assert (answer.status_code, answer.text) == (code, text)
    assert slack.messages() == []


def test_the_secret_address_is_not_in_the_log(slack):
    httpx.post(slack.url, json={"text": "hello"})
    assert slack.path not in slack.log.read_text()


def test_airflow_reaches_it_through_its_slack_webhook_connection(slack, monkeypatch):
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    monkeypatch.setenv("AIRFLOW_CONN_SLACK_TEST", slack.airflow_connection())
    SlackWebhookHook(slack_webhook_conn_id="slack_test").send_text("from Airflow")
    assert [message.text for message in slack.messages()] == ["from Airflow"]
