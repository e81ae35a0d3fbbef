"""A bank of adapters: each row of a batch is what diffusers makes of its adapters alone, whoever is beside it."""

import gc
import threading

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from darkroom_api.artifact import LORA_WEIGHTS
from darkroom_serving.engine.adapters import read_adapter
from darkroom_serving.engine.bank import AdapterBank
from darkroom_serving.engine.slots import NoFreeSlotError
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_additions import write_adapter

RANK = 8
ROWS = 4

ADAPTERS = {
    "attention": {},
    "all layers": {
        "seed": 2,
        "r": 3,
        "rank_pattern": {"conv1": 5, "out_proj": 4},
        "alpha_pattern": {"to_k": 1, "conv1": 7},
        "targets": {
            "unet": (
                *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in"),
                *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "time_emb_proj"),
            ),
            "text_encoder": ("q_proj", "k_proj", "out_proj", "fc1", "fc2"),
        },
    },
    "other scale": {
        "seed": 3,
        "r": 8,
        "lora_alpha": 2,
        "use_rslora": True,
        "targets": {"unet": ("to_q", "to_k"), "text_encoder": ("v_proj",)},
    },
}

MIXES = [
    [],
    [("attention", 1.0)],
    [("all layers", 0.6)],
    [("all layers", -0.5), ("attention", 1.3)],
    [("other scale", 0.7)],
    [("attention", 0.4), ("other scale", 0.3), ("all layers", 0.2)],
]
"""What rows have: adapters by name, and their scales."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, serving_base):
    """The weights of each adapter, by name."""
    found = {}
    for name, config in ADAPTERS.items():
        folder = tmp_path_factory.mktemp("adapter")
        write_adapter(serving_base, folder, **config)
        found[name] = folder / LORA_WEIGHTS
    with_peft_names(found["all layers"])
    return found


def with_peft_names(file):
    """Diffusers reads either all names of a UNet as peft writes them or all as it does, by the first of them."""
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    names = {".lora.down.": ".lora_A.", ".lora.up.": ".lora_B."}
    tensors = {}
    for key, tensor in load_file(file).items():
        for own, peft in names.items():
            key = key.replace(own, peft)
        tensors[key] = tensor
    save_file(tensors, file, metadata=header)


@pytest.fixture
def networks(serving_base):
    pipeline = plain_pipeline(serving_base)
    return {name: getattr(pipeline, name).eval() for name in ("unet", "text_encoder")}


def reader(file, networks, component):
    return lambda: read_adapter(file, networks)[component]


@pytest.fixture(params=["unet", "text_encoder"])
def component(request):
    return request.param


@pytest.fixture
def bank(networks, component):
    return AdapterBank(networks[component], slots=3, rank=RANK)


@pytest.fixture
def slots(bank, component, networks, files):
    """The slot of each adapter in the bank."""
    return {
        name: bank.acquire(name, reader(file, networks, component)) for name, file in files.items()
    }


def inputs(component):
    """Of one row for each mix."""
    generator = torch.Generator().manual_seed(4)
    rows = len(MIXES)
    if component == "text_encoder":
        return {"input_ids": torch.randint(0, 60, (rows, 24), generator=generator)}
    return {
        "sample": torch.randn(rows, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([900, 3, 500, 41, 777, 250]),
        "encoder_hidden_states": torch.randn(rows, 24, 16, generator=generator),
    }


@torch.inference_mode()
def outputs(component, network, rows):
    """What a network makes of some of the rows, by their numbers."""
    chosen = {name: values[rows] for name, values in inputs(component).items()}
    return network(**chosen)[0]


def with_bank(bank, component, network, rows, slots):
    mixes = [[(slots[name], scale) for name, scale in MIXES[row]] for row in rows]
    with bank.applied(mixes):
        return outputs(component, network, rows)


def by_diffusers(base, files, component, row):
    pipeline = plain_pipeline(base)
    for name, _ in MIXES[row]:
        file = files[name]
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name.split()[0])
    if MIXES[row]:
        names, scales = zip(*MIXES[row], strict=True)
        pipeline.set_adapters([name.split()[0] for name in names], list(scales))
    return outputs(component, getattr(pipeline, component).eval(), [row])


def test_each_row_is_what_diffusers_makes_of_its_adapters_alone(
    bank, slots, component, networks, files, serving_base
):
    network = networks[component]
    plain = outputs(component, network, list(range(len(MIXES))))
    together = with_bank(bank, component, network, list(range(len(MIXES))), slots)
    for row in range(len(MIXES)):
        alone = by_diffusers(serving_base, files, component, row)
        assert (together[row] - alone[0]).abs().max() < 1e-5
        assert (together[row] - plain[row]).abs().max() > 1e-3 or not MIXES[row]


def test_a_row_has_the_same_bits_whatever_is_beside_it(bank, slots, component, networks):
    seen = {row: [] for row in range(len(MIXES))}
    order = list(range(len(MIXES)))
    for shift in range(len(MIXES)):
        rows = (order[shift:] + order[:shift])[:ROWS]
        for batch in (rows, rows[::-1], [rows[0]] * ROWS):
            made = with_bank(bank, component, networks[component], batch, slots)
            for row, bits in zip(batch, made, strict=True):
                seen[row].append(bits)
    for first, *others in seen.values():
        assert all(torch.equal(first, other) for other in others)


def test_rows_without_adapters_are_the_network_itself(bank, slots, component, networks):
    network = networks[component]
    plain = outputs(component, network, [0] * ROWS)
    assert torch.equal(with_bank(bank, component, network, [0] * ROWS, slots), plain)
    beside = with_bank(bank, component, network, [0, 2, 3, 0], slots)
    assert torch.equal(beside[[0, 3]], plain[[0, 3]])
    assert torch.equal(outputs(component, network, [0] * ROWS), plain)


def test_what_one_thread_applies_is_not_applied_in_another(bank, slots, component, networks):
    network = networks[component]
    plain = outputs(component, network, [1, 2])
    made = []
    other = threading.Thread(target=lambda: made.append(outputs(component, network, [1, 2])))
    with bank.applied([[(slots["attention"], 1.0)]] * 2):
        other.start()
        other.join()
    assert torch.equal(made[0], plain)


def test_loading_in_the_middle_of_a_pass_changes_no_bit_of_it(component, networks, files):
    network = networks[component]
    bank = AdapterBank(network, slots=2, rank=RANK)
    slot = bank.acquire("attention", reader(files["attention"], networks, component))
    rows = [1] * ROWS
    before = with_bank(bank, component, network, rows, {"attention": slot})

    def load_others(*_):
        # The one changes layers that none has changed before, the next one evicts it.
        for name in ("all layers", "other scale"):
            bank.release(bank.acquire(name, reader(files[name], networks, component)))

    def in_another_thread(*_):
        thread = threading.Thread(target=load_others)
        thread.start()
        thread.join()

    middle = network.mid_block if component == "unet" else network.encoder.layers[0].self_attn
    hook = middle.register_forward_pre_hook(in_another_thread)
    during = with_bank(bank, component, network, rows, {"attention": slot})
    hook.remove()
    assert bank.counts.evictions == 1
    assert torch.equal(during, before)
    assert torch.equal(with_bank(bank, component, network, rows, {"attention": slot}), before)


def test_an_adapter_loaded_into_a_used_slot_leaves_nothing_of_the_one_before(networks, files):
    network = networks["unet"]
    made = []
    for names in (["attention"], ["other scale", "all layers", "attention"]):
        bank = AdapterBank(network, slots=1, rank=RANK)
        for name in names:
            slot = bank.acquire(name, reader(files[name], networks, "unet"))
            bank.release(slot)
        slot = bank.acquire("attention", reader(files["attention"], networks, "unet"))
        made.append(with_bank(bank, "unet", network, [1] * ROWS, {"attention": slot}))
    assert torch.equal(*made)


def test_two_hundred_loads_leave_memory_flat(networks, files):
    bank = AdapterBank(networks["unet"], slots=2, rank=RANK)
    updates = {name: read_adapter(file, networks)["unet"] for name, file in files.items()}

    def load(number):
        name = list(updates)[number % 3]
        bank.release(bank.acquire(f"{name} {number}", lambda: updates[name]))

    def tensors():
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    for number in range(3):
        load(number)
    before = bank.allocated_bytes, tensors()
    for number in range(200):
        load(3 + number)
    assert (bank.allocated_bytes, tensors()) == before
    assert bank.counts.loads == 203


def test_memory_is_taken_for_the_layers_that_adapters_change(networks, files):
    bank = AdapterBank(networks["unet"], slots=2, rank=RANK)
    assert bank.allocated_bytes == 0
    updates = read_adapter(files["attention"], networks)["unet"]
    bank.acquire("attention", lambda: updates)
    sides = sum(one.down.shape[1] + one.up.shape[0] for one in updates.values())
    assert bank.allocated_bytes == 3 * RANK * sides * 4
    assert networks["unet"].state_dict().keys() == dict(networks["unet"].named_parameters()).keys()


def test_an_adapter_in_use_is_read_once_and_never_evicted(networks, files):
    bank = AdapterBank(networks["unet"], slots=2, rank=RANK)
    updates = read_adapter(files["attention"], networks)["unet"]
    reads = []

    def acquire(key):
        return bank.acquire(key, lambda: reads.append(key) or updates)

    first = acquire("a")
    assert acquire("a") == first
    pinned = acquire("b")
    bank.pin(pinned)
    bank.release(pinned)
    bank.release(first)
    with pytest.raises(NoFreeSlotError, match="all 2 adapters of the bank are in use or pinned"):
        acquire("c")
    bank.release(first)
    assert acquire("c") == first
    bank.pin(pinned, False)
    assert acquire("d") == pinned
    assert reads == ["a", "b", "c", "d"]


def test_who_asks_for_an_adapter_that_is_being_loaded_waits_for_it(networks, files):
    bank = AdapterBank(networks["unet"], slots=1, rank=RANK)
    updates = read_adapter(files["attention"], networks)["unet"]
    reading, go_on, found = threading.Event(), threading.Event(), []

    def slow():
        reading.set()
        go_on.wait()
        return updates

    threads = [
        threading.Thread(target=lambda: found.append(bank.acquire("a", slow))) for _ in range(2)
    ]
    threads[0].start()
    reading.wait()
    threads[1].start()
    assert not found
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [0, 0]
    assert (bank.counts.loads, bank.counts.hits) == (1, 1)


def test_an_adapter_that_cannot_be_read_leaves_its_slot_free(networks, files):
    bank = AdapterBank(networks["unet"], slots=1, rank=4)
    with pytest.raises(
        ValueError, match="has rank 8, and the bank takes 4: give the bank a larger"
    ):
        bank.acquire("a", reader(files["other scale"], networks, "unet"))
    with pytest.raises(FileNotFoundError):
        bank.acquire("b", reader(files["attention"].parent / "none", networks, "unet"))
    assert bank.acquire("a", reader(files["attention"], networks, "unet")) == 0


def test_slots_that_were_not_acquired_and_other_batches_are_refused(networks, files):
    bank = AdapterBank(networks["unet"], slots=2, rank=RANK)
    slot = bank.acquire("a", reader(files["attention"], networks, "unet"))
    with (
        pytest.raises(ValueError, match=r"slots \[0, 2\] were not acquired"),
        bank.applied([[(0, 1.0), (slot, 1.0)], [(2, 1.0)]]),
    ):
        pass
    with (
        pytest.raises(ValueError, match="was given 4 rows, and adapters are set for 1"),
        bank.applied([[(slot, 1.0)]]),
    ):
        outputs("unet", networks["unet"], [0] * ROWS)


QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora"
DOWN, UP = f"{QUERY}.down.weight", f"{QUERY}.up.weight"


def without(key):
    return lambda tensors: tensors.pop(key)


def changed(**named):
    keys = {"down": DOWN, "up": UP}
    return lambda tensors: tensors.update({keys.get(key, key): to for key, to in named.items()})


def renamed(to):
    """One weight in place of both of a layer."""

    def change(tensors):
        tensors[to] = tensors.pop(DOWN)
        del tensors[UP]

    return change


NAN = torch.full((16, 2), float("nan"))

REFUSED = {
    "an unknown component": (
        renamed("text_encoder_2.a.lora.down.weight"),
        r"^text_encoder_2.a.lora.down.weight: the base has no text_encoder_2, only unet, text_enc",
    ),
    "an unknown kind of weight": (
        renamed(f"{QUERY}.alpha"),
        rf"^{QUERY}.alpha: is no LoRA weight",
    ),
    "an unknown layer": (
        renamed("unet.mid_block.other.lora.down.weight"),
        r"^unet.mid_block.other.lora.down.weight: the base has no such layer",
    ),
    "a layer that takes none": (
        renamed("unet.conv_norm_out.lora.down.weight"),
        r"^unet.conv_norm_out.lora.down.weight: the base's layer is neither",
    ),
    "half of a layer": (without(UP), rf"^{DOWN}: the layer's up weight is missing"),
    "another base's inputs": (
        changed(down=torch.zeros(2, 24)),
        rf"^{DOWN}: has shape \(2, 24\), and the base takes \('r', 16\)",
    ),
    "another base's outputs": (
        changed(up=torch.zeros(24, 2)),
        rf"^{UP}: has shape \(24, 2\); the base has 16 outputs, and r is 2",
    ),
    "two ranks": (changed(up=torch.zeros(16, 3)), rf"^{UP}: has shape \(16, 3\)"),
    "no rank": (
        changed(down=torch.zeros(0, 16), up=torch.zeros(16, 0)),
        rf"^{DOWN}: has rank 0, and the base's layer allows 1 to 16",
    ),
    "a rank above the layer": (
        changed(down=torch.zeros(17, 16), up=torch.zeros(16, 17)),
        rf"^{DOWN}: has rank 17, and the base's layer allows 1 to 16",
    ),
    "a scalar": (changed(down=torch.zeros(())), rf"^{DOWN}: has shape \(\)"),
    "NaN": (changed(up=NAN), rf"^{UP}: has numbers that are not finite in torch.float32"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    tmp_path, networks, files, change, message
):
    tensors = load_file(files["attention"])
    with safe_open(files["attention"], framework="pt") as opened:
        header = opened.metadata()
    change(tensors)
    save_file(tensors, tmp_path / LORA_WEIGHTS, metadata=header)
    with pytest.raises(ValueError, match=message):
        read_adapter(tmp_path / LORA_WEIGHTS, networks)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{", "^lora_adapter_metadata: is no JSON"),
        ("[]", "^lora_adapter_metadata: is no JSON object"),
        ('{"unet.r": 2}', "^lora_adapter_metadata: unet.lora_alpha is None"),
        ('{"unet.lora_alpha": NaN}', "^lora_adapter_metadata: unet.lora_alpha is nan"),
    ],
)
def test_an_adapter_whose_scale_is_unreadable_is_refused(tmp_path, networks, files, entry, message):
    header = {"format": "pt", "lora_adapter_metadata": entry}
    save_file(load_file(files["attention"]), tmp_path / LORA_WEIGHTS, metadata=header)
    with pytest.raises(ValueError, match=message):
        read_adapter(tmp_path / LORA_WEIGHTS, networks)


def test_what_float16_cannot_hold_is_refused(tmp_path, networks, files):
    tensors = load_file(files["attention"])
    tensors[UP] = torch.full((16, 2), 30_000.0)
    with safe_open(files["attention"], framework="pt") as opened:
        save_file(tensors, tmp_path / LORA_WEIGHTS, metadata=opened.metadata())
    networks["unet"].half()
    with pytest.raises(
        ValueError, match=f"^{UP}: has numbers that are not finite in torch.float16"
    ):
        read_adapter(tmp_path / LORA_WEIGHTS, networks)


def test_no_file_of_safetensors_is_refused(tmp_path, networks):
    (tmp_path / LORA_WEIGHTS).write_bytes(b"pickle")
    with pytest.raises(ValueError, match=f"^{LORA_WEIGHTS} is no file of safetensors"):
        read_adapter(tmp_path / LORA_WEIGHTS, networks)
