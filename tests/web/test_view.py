"""What is shown: the answer first, and nothing as current that is not."""

from __future__ import annotations

from datetime import timedelta

from gleaner.bus.messages import GpuCondition, Inventory, Run, RunState
from gleaner.fleet import Presence
from services.web.shown.filter import shown_state
from services.web.shown.held import held
from services.web.shown.view import Node
from services.web.streaming.live import Live
from tests.builders import NOW
from tests.web.conftest import Web
from tests.web.example import H100, MARKUP, gpu_id


def node(web: Web, name: str) -> Node:
    return next(one for one in web.live.snapshot().nodes if one.node == name)


def test_nothing_is_known_before_a_node_is_heard(web: Web) -> None:
    assert web.live.snapshot().overview.headline == "No node has been heard yet"


def test_the_headline_counts_idle_and_ours_as_free(busy: Web) -> None:
    overview = busy.live.snapshot().overview

    assert overview.headline == "9 of 23 GPUs free"
    assert overview.details == (
        "3 of them at work",
        "4 busy",
        "1 held",
        "1 dirty",
        "1 lost",
        "7 unknown",
        "1 node stale",
        "1 node offline",
        "4 GPUs simulated",
    )


def test_a_node_counts_its_own_gpus_and_only_while_it_is_heard(busy: Web) -> None:
    assert node(busy, "atlas").headline == "3 of 8 GPUs free"
    assert node(busy, "sim-0").details == ("1 of them at work", "1 unknown", "simulated")
    assert node(busy, "cygnus").headline == "nothing is known now of 4 GPUs"
    assert node(busy, "cygnus").details == ()


def test_free_gpus_are_counted_by_model_with_the_shown_names_of_their_nodes(busy: Web) -> None:
    models = {one.model: one for one in busy.live.snapshot().overview.free_models}

    assert (models["A100-SXM4-40GB"].free, models["A100-SXM4-40GB"].total) == (3, 8)
    assert [offer.name for offer in models["A100-SXM4-40GB"].offers] == ["Boreas"]
    assert "NVIDIA" in H100
    assert models["H100 80GB HBM3"].free == 3


def test_a_busy_gpu_shows_who_holds_it_since_when_and_how_much(busy: Web) -> None:
    gpu = node(busy, "atlas").gpus[0]

    assert gpu.state is GpuCondition.BUSY
    assert gpu.summary == "alice · python train.py"
    assert gpu.since == NOW - timedelta(hours=2)
    assert gpu.utilization_percent == 97
    assert gpu.blockers
    assert gpu.blockers[0].text == "alice computes (pid 4711, python)"


def test_a_gpu_of_ours_names_the_workload(busy: Web) -> None:
    gpu = node(busy, "atlas").gpus[2]

    assert (gpu.summary, gpu.entry, gpu.run) == ("fold", "fold", "fold-7")


async def test_an_idle_gpu_names_the_workload_that_has_not_opened_it(busy: Web) -> None:
    run = busy.example().run("atlas", "fold-9", "fold", 4, RunState.RUNNING)
    await busy.say([run])

    gpu = node(busy, "atlas").gpus[4]
    assert (gpu.state, gpu.summary, gpu.run) == ("idle", "free · fold runs", "fold-9")


def test_a_lost_gpu_has_no_readings_rather_than_zeros(busy: Web) -> None:
    gpu = node(busy, "atlas").gpus[7]

    assert (gpu.state, gpu.utilization_percent, gpu.power_watts) == ("lost", None, None)


def test_nothing_of_a_stale_node_is_current(busy: Web) -> None:
    draco = node(busy, "draco")

    assert draco.presence is Presence.STALE
    assert draco.readings_at is None
    assert draco.host_reading is None
    for gpu in draco.gpus:
        assert gpu.state is GpuCondition.UNKNOWN
        assert (gpu.since, gpu.holders, gpu.utilization_percent) == (None, (), None)
    assert draco.gpus[0].last == "busy: dan draws (pid 808, blender)"


async def test_readings_that_grew_old_are_not_shown_though_the_node_is_online(busy: Web) -> None:
    busy.later(40)
    await busy.say([busy.example().beat("atlas")])

    atlas = node(busy, "atlas")
    assert atlas.presence is Presence.ONLINE
    assert atlas.readings_at is None
    assert atlas.gpus[0].utilization_percent is None
    assert atlas.gpus[0].state is GpuCondition.BUSY


def test_an_offline_node_stays_on_the_page(busy: Web) -> None:
    cygnus = node(busy, "cygnus")

    assert cygnus.presence is Presence.OFFLINE
    assert [gpu.last for gpu in cygnus.gpus] == ["idle"] * 4


async def test_instants_are_on_our_clock_when_the_nodes_is_wrong(busy: Web) -> None:
    await busy.say([busy.example().beat("atlas", hours=-1)])

    assert node(busy, "atlas").gpus[0].since == NOW - timedelta(hours=3)


def test_a_drained_node_says_by_whom(busy: Web) -> None:
    drain = node(busy, "boreas").drain

    assert drain
    assert (drain.by, drain.reason) == ("olga", "new fans on Monday")


def test_a_workload_that_crashed_can_be_resumed(busy: Web) -> None:
    assert node(busy, "atlas").resumable == ("render",)


def test_the_last_evictions_are_kept_with_their_stages(busy: Web) -> None:
    (run,) = busy.live.snapshot().overview.evictions

    assert run.cause == "GPU 0: alice computes (pid 4711, python)"
    assert run.stages
    assert run.stages.noticed_to_term == 0.0021


async def test_evictions_outlive_the_runs_fact(busy: Web) -> None:
    busy.others.clear(Run, node="atlas", run="fold-5")
    await busy.say([])

    assert [run.run for run in busy.live.snapshot().overview.evictions] == ["fold-5"]
    assert "fold-5" not in [run.run for run in node(busy, "atlas").runs]


def test_markup_in_names_is_kept_as_it_is(busy: Web) -> None:
    gpu = node(busy, "boreas").gpus[0]

    assert gpu.gpu == gpu_id("boreas", 0)
    assert gpu.holders[0].user == MARKUP


def test_how_fast_a_node_leaves_is_said_in_words(busy: Web) -> None:
    reactions = {one.node: one.reaction for one in busy.live.snapshot().nodes}

    assert reactions["atlas"] == "within milliseconds (fanotify)"
    assert "polling only" in (reactions["draco"] or "")


async def test_a_host_that_is_an_address_is_shown_whole(web: Web) -> None:
    example = web.example()
    address = example.inventory("10-0-0-5", H100, 1, 2**36, notices="check")
    await web.say([address.model_copy(update={"host": "10.0.0.5"})])

    assert node(web, "10-0-0-5").name == "10.0.0.5"


async def test_the_administrators_names_for_models_and_nodes_are_shown() -> None:
    web = Web()
    web.live = Live(web.bus, {"atlas": "Atlas"}, lambda: web.now, models={H100: "H100"})
    async with web.others, web.bus:
        await web.say(web.example().messages())

        atlas = node(web, "atlas")

        assert (atlas.name, atlas.gpus[0].model, atlas.gpus[0].name) == ("Atlas", "H100", H100)
        web.live.close()


async def test_a_clock_that_is_wrong_is_said(busy: Web) -> None:
    await busy.say([busy.example().beat("atlas", hours=-1)])

    assert "its clock is 60 min ahead of ours; times are shown by ours" in (
        node(busy, "atlas").limitations
    )


async def test_an_online_node_without_current_readings_is_counted(busy: Web) -> None:
    busy.later(40)
    await busy.say([busy.example().beat("atlas")])

    assert "1 node without current readings" in busy.live.snapshot().overview.details


async def test_a_gpu_in_mig_mode_is_in_no_sum_beside_its_instances(busy: Web) -> None:
    before = busy.live.snapshot()
    example = busy.example()
    inventory = next(
        one for one in example.messages() if isinstance(one, Inventory) and one.node == "atlas"
    )
    # Alice's becomes the parent, bob's held one another's.
    gpus = tuple(
        gpu.model_copy(update={"schedulable": gpu.index not in (0, 5)}) for gpu in inventory.gpus
    )
    await busy.say([inventory.model_copy(update={"gpus": gpus})])

    moment = busy.live.moment()
    after = moment.snapshot()
    assert after.overview.gpus == before.overview.gpus - 2
    assert after.overview.states["held"] == before.overview.states["held"] - 1
    assert held(moment.facts) == []
    assert sum(one.n_gpus for one in after.users) == sum(one.n_gpus for one in before.users) - 2
    text = (await busy.client.get("/metrics")).text
    lines = [line for line in text.splitlines() if gpu_id("atlas", 0) in line]
    names = {line.partition("{")[0] for line in lines}
    assert "gleaner_gpu_utilization_ratio" in names
    assert names.isdisjoint(
        {"gleaner_gpu_state", "gleaner_gpu_memory_total_bytes", "gleaner_gpu_memory_used_bytes"}
    )


async def test_a_gpu_in_mig_mode_is_not_shown_as_free(busy: Web) -> None:
    example = busy.example()
    inventory = next(
        one for one in example.messages() if isinstance(one, Inventory) and one.node == "atlas"
    )
    gpus = tuple(gpu.model_copy(update={"schedulable": False}) for gpu in inventory.gpus)
    await busy.say([inventory.model_copy(update={"gpus": gpus})])

    atlas = node(busy, "atlas")
    shown = {gpu.state: (shown_state(atlas, gpu), gpu.summary) for gpu in atlas.gpus}
    assert shown[GpuCondition.IDLE] == ("divided", "its MIG devices are used instead")
    assert shown[GpuCondition.BUSY][0] == "busy"
    assert 'class="tile s-divided"' in (await busy.client.get("/")).text
