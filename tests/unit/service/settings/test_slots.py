import pytest

from onnxscape.errors import UsageError
from onnxscape.service.settings.slots import device_messages, kinds_of, slots_of


def names(setting, gpus):
    return [(slot.name, slot.device) for slot in slots_of(setting, gpus=gpus)]


@pytest.fixture
def gpus(tmp_path):
    """Two GPUs, as Linux tells of them."""
    for number in range(2):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t NVIDIA H100 {number}\nIRQ: 1\n")
    return tmp_path


def test_slots_are_counted_by_device(gpus):
    assert names(["cpu:2", "cuda:1:2", "cuda:0"], gpus) == [
        ("cpu/0", "cpu"),
        ("cpu/1", "cpu"),
        ("cuda:1/0", "cuda:1"),
        ("cuda:1/1", "cuda:1"),
        ("cuda:0/0", "cuda:0"),
    ]


def test_auto_is_one_slot_on_each_gpu_or_one_on_the_cpu(gpus, tmp_path):
    assert names(["auto"], gpus) == [("cuda:0/0", "cuda:0"), ("cuda:1/0", "cuda:1")]
    assert names(["auto"], tmp_path / "none") == [("cpu/0", "cpu")]
    assert names(["auto", "cpu"], gpus)[-1] == ("cpu/0", "cpu")


@pytest.mark.parametrize(
    "setting", [[], ["tpu:0"], ["cpu:-1"], ["cpu:0"], ["cuda"], ["cpu:100"], ["cpu:2:3"]]
)
def test_slots_that_are_none_are_refused(setting, gpus):
    with pytest.raises(UsageError, match="slots"):
        slots_of(setting, gpus=gpus)


def test_devices_are_told_with_their_slots(gpus):
    slots = slots_of(["cpu:2", "cuda:1", "cuda:7"], gpus=gpus)
    assert kinds_of(slots) == {"cpu", "cuda"}
    told = device_messages(slots, threads=3, gpus=gpus)
    assert [(device.name, device.slots) for device in told] == [
        ("cpu", 2),
        ("cuda:1", 1),
        ("cuda:7", 1),
    ]
    assert "3 threads" in told[0].description
    assert told[1].description == "NVIDIA H100 1"
