"""The description of the API is true: what follows it, and what does not, never breaks it."""

import warnings

import pytest


def test_every_route_is_described(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    for path in (
        "/v1/models",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/health",
        "/props",
        "/metrics",
        "/api/runs",
        "/api/models",
        "/api/conversations",
    ):
        assert path in paths, path
    silent = [
        f"{method} {path}"
        for path, methods in paths.items()
        for method, about in methods.items()
        if not about.get("description")
    ]
    assert silent == []
    # No page of documentation that fetches from elsewhere.
    assert client.get("/docs").status_code == 404


@pytest.mark.long
def test_nothing_that_is_sent_breaks_the_server(served):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import strategies as st

    schema = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    # What may run for minutes, or change this machine, has tests of its own.
    schema = schema.include(path_regex=r"^(/v1/|/health|/props|/metrics)")

    def check(operation):
        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def run(data):
            case = data.draw(operation.as_strategy())
            if isinstance(case.body, dict):
                for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
                    if isinstance(case.body.get(name), int):
                        case.body[name] = min(case.body[name], 16)
                    elif name == "max_tokens":
                        case.body[name] = 8
            answer = case.call(timeout=120)
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)

        run()

    num_checked = 0
    for found in schema.get_all_operations():
        check(found.ok())
        num_checked += 1
    assert num_checked >= 9
    assert served.service.metrics.running._value.get() == 0
    assert all(model.num_users == 0 for model in served.service.pool.loaded())
