from flask.testing import FlaskClient


def test_health_tells_that_the_database_is_connected(client: FlaskClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["ok"] is True
    assert answer.json["db_status"] == "connected"
