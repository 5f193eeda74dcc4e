"""What a session says of requests that an earlier run left unanswered."""

from unittest import mock

import pytest

from bitnet_core.collecting.reporting import SessionReporter


@pytest.mark.parametrize(
    ("free", "end"), [(True, "they are sent again."), (False, "they are sent again, and may be billed.")]
)
def test_only_a_teacher_that_costs_money_bills_a_request_twice(free: bool, end: str) -> None:
    reporter = mock.Mock()
    SessionReporter(reporter, mock.Mock(), mock.Mock()).lost_requests(6, free=free)
    assert reporter.alert.call_args.args[2].endswith(end)
