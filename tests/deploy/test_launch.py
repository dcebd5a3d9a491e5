"""What a launch says of what others have left; launches themselves are in tests/image."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aim_engine.deploy.allocation import allocate
from aim_engine.deploy.launch import _left_by_others
from aim_engine.deploy.launch_job import Decision
from aim_engine.deploy.spec import container_spec
from tests.deploy.planning import cpu_plan
from tests.deploy.running import endpoint


@pytest.mark.parametrize(("seconds", "told"), [(5, []), (90, ["aim-left was created and never started"])])
def test_what_a_killed_launch_has_left_is_said(seconds: float, told: list[str]) -> None:
    """One that is being launched this moment is nobody's business."""
    created = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    left = endpoint("aim-left", state={"Status": "created"}, Created=created)
    plan = cpu_plan()
    decision = Decision(
        plan=plan, allocation=allocate(plan.inventory, ()), spec=container_spec(plan), unstarted=(left,)
    )
    found = list(_left_by_others(decision))
    assert [text.partition(":")[0] for text in found] == told
    assert all("aim-engine stop aim-left" in text for text in found)
