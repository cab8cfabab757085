"""Use in tables, over time, and by the hour of the week."""

from __future__ import annotations

from services.web.history.quiet import least_used, least_used_hours, week_of
from services.web.history.used import periods_of, quotas_of, totals_of, used_by
from services.web.texts import quantity
from tests.web.canned import hours_of_the_week, use


def test_ours_stand_apart_from_people() -> None:
    rows = [
        {"user": None, "entry": "fold", **use(90)},
        {"user": "bob", "entry": None, **use(4, busy=1, held=3)},
        {"user": "alice", "entry": None, **use(8, busy=8)},
        {"user": None, "entry": None, **use(1)},
    ]

    people, ours = used_by(rows, "user"), used_by(rows, "user", ours=True)
    assert [(one.name, one.gpu_hours) for one in people] == [("alice", 8), ("bob", 4), (None, 1)]
    assert [one.name for one in ours] == ["fold"]
    assert people[1].bar == (("busy", 0.0, 12.5), ("held", 12.5, 37.5))


def test_groups_are_people_too() -> None:
    rows = [{"group": None, "entry": "fold", **use(9)}, {"group": "vision", **use(3)}]

    assert [one.name for one in used_by(rows, "group")] == ["vision"]


def test_a_day_without_anything_recorded_is_no_day_without_use() -> None:
    rows = [{"day": day, **use(8, busy=8, idle_hours=4)} for day in ("2026-03-01", "2026-02-27")]

    periods = periods_of(rows, "day")
    assert [(one.name, one.used_hours) for one in periods] == [
        ("2026-02-27", 8),
        ("2026-02-28", None),
        ("2026-03-01", 8),
    ]
    assert totals_of((), periods).people_percent == 100 * 16 / 24


def test_weeks_and_months_follow_each_other_over_the_year() -> None:
    weeks = periods_of([{"week": w, **use(1)} for w in ("2027-W01", "2026-W52")], "week")
    months = periods_of([{"month": m, **use(1)} for m in ("2027-02", "2026-11")], "month")

    assert [one.name for one in weeks] == ["2026-W52", "2026-W53", "2027-W01"]
    assert [one.name for one in months] == ["2026-11", "2026-12", "2027-01", "2027-02"]


def test_the_hours_of_the_day_are_24() -> None:
    hours = periods_of([{"hour": hour, **use(1, busy=1)} for hour in ("23", "07")], "hour")

    assert [one.name for one in hours] == [f"{hour:02d}" for hour in range(24)]
    assert [one.name for one in hours if one.used_hours == 1] == ["07", "23"]


def test_the_least_used_time_is_told_in_words() -> None:
    rows = hours_of_the_week(lambda day, hour: 0.03 if (day, hour // 4) == (7, 1) else 0.4)

    week = week_of(rows)
    assert least_used(week)[0] == "Sun 04–08, 3 % busy"
    assert week[6][4].text == "3"
    assert (week[0][0].level, week[6][4].level) == (10, 1)


def test_hours_that_nobody_knows_are_not_quiet() -> None:
    rows = hours_of_the_week(lambda *_: 0.4)
    for row in rows[:12]:
        row |= {f"{state}_hours": 0.0 for state in ("idle", "busy", "held", "ours", "dirty")}

    week = week_of(rows)
    assert week[0][0].text == "–"
    assert week[0][0].level == -1
    assert not least_used(week)[0].startswith("Mon 0")


def test_an_older_recorder_tells_of_hours_of_the_day() -> None:
    rows = [
        {"hour": f"{hour:02d}", "busy_hours": 1.0 if 2 <= hour < 6 else 9.0, "idle_hours": 9.0}
        for hour in range(24)
    ]

    assert week_of(rows) == ()
    assert least_used_hours(rows) == ("02–06, 10 % busy",)


def test_rows_that_answer_something_else_are_left_out() -> None:
    assert used_by([{"day": "2026-11-21", **use(3)}], "group") == ()


def test_quotas_say_what_is_left() -> None:
    found = quotas_of(
        [
            {"user": "ann", "month": "2026-11", "gpu_hours": 3.0, "quota_gpu_hours": None},
            {
                "user": "bob",
                "month": "2026-11",
                "gpu_hours": 120.0,
                "quota_gpu_hours": 100.0,
                "percent": 120.0,
            },
        ]
    )

    assert [(one.user, one.text) for one in found] == [
        ("bob", "120 %, 20.0 h over"),
        ("ann", "no quota"),
    ]


def test_hours_are_as_exact_as_they_are_small() -> None:
    told = [quantity(one) for one in (None, 0, 0.25, 12.52, 1204.4)]

    assert told == ["–", "0.0 h", "0.25 h", "12.5 h", "1,204 h"]
    assert quantity(3, "") == "3.0"
