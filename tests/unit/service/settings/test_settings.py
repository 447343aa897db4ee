import dataclasses
from pathlib import Path

import pytest

from onnxscape.errors import UsageError
from onnxscape.service.settings.config import ServerConfig, UserQuota
from onnxscape.service.settings.loading import SETTINGS, load_config

EXAMPLES = {
    "host": ("example.org", "example.org"),
    "port": ("0", 0),
    "port_file": ("a/b", Path("a/b")),
    "http_port": ("9090", 9090),
    "http_host": ("::1", "::1"),
    "http_insecure": ("true", True),
    "data_dir": ("/srv/x", Path("/srv/x")),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "drain_seconds": ("1.5", 1.5),
    "auth": ("token", "token"),
    "insecure": ("true", True),
    "tls_cert": ("c.pem", Path("c.pem")),
    "tls_key": ("k.pem", Path("k.pem")),
    "client_ca": ("ca.pem", Path("ca.pem")),
    "slots": ("cpu:2,cuda:0", ("cpu:2", "cuda:0")),
    "blob_bytes": ("512M", 512 << 20),
    "worker_memory": ("16GiB", 16 << 30),
    "quota_weight": ("0.5", 0.5),
    "users": ("ann.jobs=5,ann.weight=2,b.c.jobs=1", {"ann": {"jobs": 5, "weight": 2.0},
                                                  "b.c": {"jobs": 1}}),
    "data": ("digits, cifar10", ("digits", "cifar10")),
    "cache_dir": ("/cache", Path("/cache")),
    "data_files": ("a=x.npz,b=y.npz", {"a": Path("x.npz"), "b": Path("y.npz")}),
    "models": ("net-1=m.onnx", {"net-1": Path("m.onnx")}),
}  # fmt: skip
"""Setting to a text, and its value; all others take the number 7."""


def value_of(name):
    return EXAMPLES.get(name, ("7", 7))


def test_every_field_of_the_configuration_is_a_setting():
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(ServerConfig)]


def test_a_configuration_of_nothing_has_the_defaults():
    assert load_config({}, environment={}, file=None) == ServerConfig()


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_a_flag_a_variable_and_a_key_of_the_file(name, tmp_path):
    text, value = value_of(name)
    file = tmp_path / "server.toml"
    file.write_text(f'{name} = "{text}"\n')
    for config in (
        load_config({name: text}, environment={}, file=None),
        load_config({}, environment={f"ONNXSCAPE_{name.upper()}": text}, file=None),
        load_config({}, environment={}, file=file),
    ):
        assert getattr(config, name) == value != getattr(ServerConfig(), name)


def test_flags_win_over_variables_and_these_over_the_file(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('quota_jobs = 1\nquota_watchers = 1\nhost = "file"\n')
    environment = {"ONNXSCAPE_QUOTA_JOBS": "2", "ONNXSCAPE_QUOTA_WATCHERS": "2"}
    config = load_config({"quota_jobs": "3"}, environment=environment, file=file)
    assert (config.quota_jobs, config.quota_watchers, config.host) == (3, 2, "file")


def test_a_file_says_lists_and_tables_as_toml_does(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text(
        'slots = ["cpu:2"]\nport = 0\ninsecure = true\nblob_bytes = 1024\n'
        '[users.ann]\njobs = 5\nblob_bytes = "1K"\n[models]\nnet = "m.onnx"\n'
    )
    config = load_config({}, environment={}, file=file)
    assert config.slots == ("cpu:2",)
    assert config.insecure
    assert config.blob_bytes == 1024
    assert config.users == {"ann": {"jobs": 5, "blob_bytes": 1024}}
    assert config.models == {"net": Path("m.onnx")}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("quotajobs = 1", "has the setting 'quotajobs', which is not known"),
        ("quota_jobs = ", "expected a TOML file"),
        ("quota_jobs = true", "quota_jobs in .*expected a whole number"),
        ("port = 70000", "expected 0 to 65535, got 70000"),
        ("half_life = nan", "expected a number of at least 1"),
        ("insecure = 1", "expected true or false"),
        ('blob_bytes = "1 elephant"', "expected bytes"),
        ("blob_bytes = -1", "expected bytes"),
        ('auth = "password"', "expected none, token or mtls, got 'password'"),
        ("[users.ann]\nshoes = 2", "ann.shoes"),
        ("[users.ann]\njobs = -2", "ann.jobs: expected a whole number"),
        ('[models]\n"../x" = "m.onnx"', "lower-case letters"),
        ('[models]\nX = "m.onnx"', "lower-case letters"),
        ("[models]\nx = 3", "expected a file"),
        ("data = [1]", "expected words"),
        ('data_dir = ""', "expected a path, got ''"),
    ],
)
def test_what_means_nothing_is_refused_and_told_where_it_stands(tmp_path, content, text):
    file = tmp_path / "server.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=text) as caught:
        load_config({}, environment={}, file=file)
    assert str(file) in str(caught.value)


def test_variables_and_flags_are_named_in_errors():
    with pytest.raises(UsageError, match="the variable ONNXSCAPE_PORT: expected 0 to 65535"):
        load_config({}, environment={"ONNXSCAPE_PORT": "tcp://10.0.0.1:50051"}, file=None)
    with pytest.raises(UsageError, match=r"--quota-jobs: expected a whole number .* 'many'"):
        load_config({"quota_jobs": "many"}, environment={}, file=None)
    with pytest.raises(UsageError, match="cannot read the configuration"):
        load_config({}, environment={}, file=Path("/nonexistent/server.toml"))


def test_a_user_has_the_quotas_of_everybody_but_for_the_own_ones():
    config = ServerConfig(quota_jobs=3, users={"ann": {"weight": 2.0}})
    assert config.quota_of("bob") == UserQuota(jobs=3)
    assert config.quota_of("ann") == UserQuota(jobs=3, weight=2.0)
