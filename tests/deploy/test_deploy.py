"""The container file and the files of Compose and Kubernetes are well formed, and name what is there."""

import copy
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from muxjax import __main__
from muxjax.cluster.on_ray.nodes import GPU, Node, lacking
from muxjax.cluster.plan import unit_specs
from muxjax.commands import serve_flags
from muxjax.placement.plan_file import read_placement
from muxjax.server.config import HttpOptions, load_options
from tests.deploy.lint import (
    compose_faults,
    container_faults,
    documents,
    instructions,
    kubernetes_faults,
    pod_templates,
    unit_faults,
    unit_settings,
)

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy"
CONTAINER = (FOLDER / "Containerfile").read_text()
COMPOSE = documents((FOLDER / "compose.yaml").read_text())[0]
KUBERNETES = documents((FOLDER / "kuberay.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ARGS = dict(rest.partition("=")[::2] for word, rest in instructions(CONTAINER) if word == "ARG")


def test_the_container_file_holds_what_it_names():
    assert container_faults(CONTAINER, ROOT) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("COPY muxjax", "COPY muxjacks", "nothing to copy: muxjacks"),
        ("USER 1000", "USER root", "runs as root"),
        ("RUN pip", "RUNS pip", "no instruction RUNS"),
        ("${EXTRAS}", "${EXTRA}", "no ARG EXTRA"),
        ("${PYTHON}", "${SNAKE}", "no ARG SNAKE"),
    ],
)
def test_a_wrong_container_file_is_found(before, after, fault):
    assert before in CONTAINER
    assert fault in container_faults(CONTAINER.replace(before, after), ROOT)


def test_what_is_copied_is_all_that_the_package_is_built_of():
    copied = {source for word, rest in instructions(CONTAINER) if word == "COPY" for source in rest.split()[:-1]}
    let_in = {line[1:] for line in (FOLDER / "Containerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in == {"pyproject.toml", "muxjax", PROJECT["readme"], *PROJECT["license-files"]}


def test_extras_and_versions_are_those_of_the_project():
    extras = {*ARGS["EXTRAS"].split(","), *COMPOSE["services"]["muxjax"]["build"]["args"]["EXTRAS"].split(",")}
    assert extras <= PROJECT["optional-dependencies"].keys()
    (least,) = re.findall(r"ray>=([\d.]+)", " ".join(PROJECT["optional-dependencies"]["ray"]))
    assert _numbers(ARGS["RAY_VERSION"]) >= _numbers(least)
    (cluster,) = (resource for resource in KUBERNETES if resource["kind"] == "RayCluster")
    assert cluster["spec"]["rayVersion"] == ARGS["RAY_VERSION"]
    assert COMPOSE["services"]["muxjax"]["build"]["args"].keys() <= ARGS.keys()


def test_compose_names_what_is_there():
    assert compose_faults(COMPOSE, FOLDER) == []
    build = COMPOSE["services"]["muxjax"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).samefile(FOLDER / "Containerfile")


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("services", "grafana", "prots"), [], "grafana: no key prots"),
        (("services", "grafana", "volumes"), ["./graphana:/x"], "grafana: no ./graphana"),
        (("services", "muxjax", "volumes"), ["program:/x"], "muxjax: no program"),
        (("services", "grafana", "depends_on"), ["prom"], "grafana: no service prom"),
        (("services", "grafana", "image"), "grafana/grafana:latest", "grafana: grafana/grafana:latest has no version"),
    ],
)
def test_a_wrong_compose_file_is_found(path, value, fault):
    assert compose_faults(_changed(COMPOSE, path, value), FOLDER) == [fault]


def test_on_gpus_compose_changes_what_is_there_and_nothing_else():
    more = _yaml("compose.cuda.yaml")
    (name, service), build = next(iter(more["services"].items())), COMPOSE["services"]["muxjax"]["build"]
    assert more.keys() == {"services"} and name in COMPOSE["services"]
    assert service["build"]["args"].keys() <= build["args"].keys()
    assert set(service["build"]["args"]["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    (devices,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert devices == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    services = COMPOSE["services"] | {name: COMPOSE["services"][name] | service}
    assert compose_faults({**COMPOSE, "services": services}, FOLDER) == []


UNIT = unit_settings((FOLDER / "muxjax.service").read_text())


def test_the_unit_of_systemd_has_keys_that_there_are():
    assert unit_faults(UNIT) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        ("Service", "ExecStart", "muxjax serve", "ExecStart: no whole path"),
        ("Service", "KilMode", "mixed", "Service: no key KilMode"),
        ("Servce", "Type", "exec", "no section Servce"),
    ],
)
def test_a_wrong_unit_of_systemd_is_found(section, key, value, fault):
    assert unit_faults({**UNIT, section: {**UNIT.get(section, {}), key: value}}) == [fault]


def test_systemd_checks_what_it_starts_and_lets_requests_end():
    service = UNIT["Service"]
    check, start = (__main__._parser().parse_args(shlex.split(service[key])[1:]) for key in ("ExecStartPre", "ExecStart"))
    assert check.check and not start.check and check.sources == start.sources
    (binary,) = {shlex.split(service[key])[0] for key in ("ExecStartPre", "ExecStart")}
    assert binary == "/opt/muxjax/bin/muxjax"
    assert start.compilation_cache_dir == f"%C/{service['CacheDirectory']}" and start.worker_dir == f"%t/{service['RuntimeDirectory']}"
    assert float(service["TimeoutStopSec"]) >= HttpOptions().shutdown_timeout_s + 10
    assert service["KillMode"] == "mixed"  # a signal to the workers too would cost them their requests


def test_the_readme_names_every_file():
    readme = (FOLDER / "README.md").read_text()
    names = {path.name + "/" * path.is_dir() for path in FOLDER.iterdir()} - {"README.md", "Containerfile.dockerignore"}
    assert {name for name in names if f"[`{name}`]" not in readme} == set()


def test_prometheus_and_grafana_ask_where_somebody_answers():
    services, config = COMPOSE["services"], _yaml("prometheus.yaml")
    (scrape,) = config["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    options = load_options([str(FOLDER / "models.yaml")], {})
    assert target == f"muxjax:{options.http.port}" and options.http.host == "0.0.0.0"
    assert f'job="{scrape["job_name"]}"' in (ROOT / "monitoring/rules.yml").read_text()
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} <= _targets(services["prometheus"])
    (source,) = _yaml("grafana/datasources.yaml")["datasources"]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in services
    (provider,) = _yaml("grafana/dashboards.yaml")["providers"]
    boards = {target for target in _targets(services["grafana"]) if Path(target).parent == Path(provider["options"]["path"])}
    assert boards == {services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]}


def test_the_models_of_compose_lie_in_the_image():
    for model in load_options([str(FOLDER / "models.yaml")], {}).unit.models:
        assert (ROOT / model.path.relative_to("/opt/muxjax") / "config.json").is_file()
    assert COMPOSE["services"]["muxjax"]["command"][:1] == ["serve"]


def test_kubernetes_resources_name_what_is_there():
    assert kubernetes_faults(KUBERNETES) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ((1, "spec", "workerGroupSpecs", 0, "replica"), 2, "RayCluster muxjax: workers has no replica"),
        ((1, "spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "RayCluster muxjax: head: num-cpus must be a string"),
        ((2, "spec", "selector", "matchLabels", "app"), "x", "Deployment muxjax: selects other pods than its own"),
        ((2, "spec", "template", "spec", "volumes", 0, "name"), "x", "muxjax: no volume config"),
        ((2, "spec", "template", "spec", "volumes", 0, "configMap", "name"), "x", "no config map x"),
        ((2, "spec", "template", "spec", "containers", 0, "livenessProbe", "httpGet", "port"), "x", "muxjax: no port x"),
        ((3, "spec", "selector", "app"), "x", "Service muxjax: no port http"),
    ],
)
def test_a_wrong_resource_is_found(path, value, fault):
    assert kubernetes_faults(_changed(KUBERNETES, path, value)) == [fault]


def test_a_key_given_twice_is_found():
    with pytest.raises(yaml.YAMLError, match="twice"):
        documents("a: 1\na: 2\n")


def test_the_placement_on_kubernetes_fits_its_nodes(tmp_path):
    options, args = _front(tmp_path)
    (cluster,) = (resource for resource in KUBERNETES if resource["kind"] == "RayCluster")
    nodes = [
        Node("", int(container["resources"]["limits"]["nvidia.com/gpu"]))
        for group in cluster["spec"]["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
        for _ in range(group["replicas"])
    ]
    specs = unit_specs(read_placement(tmp_path / "placement.json"), options.unit)
    assert lacking(specs, nodes, GPU) == ""
    assert lacking([*specs, *specs], nodes, GPU)
    assert args.ray == "auto" and options.http.port == 8000


def test_all_pods_of_kubernetes_have_the_token_of_the_cluster():
    pods = [
        {env["name"]: env for env in container.get("env", ())}
        for pod in pod_templates(KUBERNETES)
        for container in pod["spec"]["containers"]
    ]
    assert len(pods) == 3
    assert all(env["RAY_AUTH_MODE"]["value"] == "token" for env in pods)
    assert len({str(env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]) for env in pods}) == 1


def _front(folder: Path):
    """Options of the front on Kubernetes, its files laid out in a folder, and the flags of its command."""
    (config,) = (resource for resource in KUBERNETES if resource["kind"] == "ConfigMap")
    for name, text in config["data"].items():
        (folder / name).write_text(text)
    (front,) = (resource for resource in KUBERNETES if resource["kind"] == "Deployment")
    (script,) = front["spec"]["template"]["spec"]["containers"][0]["args"]
    args = __main__._parser().parse_args(shlex.split(script.partition("exec muxjax ")[2].replace("/config", str(folder))))
    return load_options(args.sources, serve_flags.settings(args)), args


def _yaml(name: str):
    return documents((FOLDER / name).read_text())[0]


def _targets(service) -> set[str]:
    """Where files are mounted in a service."""
    return {volume.split(":")[1] for volume in service["volumes"]}


def _changed(value, path, new):
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return changed


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
