"""Readers of the files in deploy/, which name what is wrong with them."""

import configparser
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_KNOWN = {"ARG", "FROM", "ENV", "SHELL", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
_FIELDS = {
    "spec": ({"headGroupSpec"}, {"rayVersion", "workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions", "suspend"}),
    "head": ({"rayStartParams", "template"}, {"serviceType", "headService"}),
    "workers": ({"groupName", "rayStartParams", "template", "replicas", "minReplicas", "maxReplicas"}, {"numOfHosts", "scaleStrategy"}),
}
"""Of KubeRay's RayCluster: what must be there, and what may."""
_UNIT = {
    "Unit": set("Description Documentation After Wants Requires".split()),
    "Service": set(
        "Type User DynamicUser Environment EnvironmentFile CacheDirectory RuntimeDirectory StateDirectory ExecStartPre ExecStart KillMode "
        "TimeoutStartSec TimeoutStopSec Restart RestartSec LimitNOFILE NoNewPrivileges PrivateTmp ProtectHome ProtectSystem".split()
    ),
    "Install": {"WantedBy"},
}
"""Keys of systemd's units, by section: systemd.unit(5), systemd.service(5), systemd.exec(5)."""
_SERVICE = set(
    "build image command entrypoint environment volumes ports healthcheck depends_on restart stop_grace_period user deploy profiles".split()
)


class Strict(yaml.SafeLoader):
    """YAML in which no key is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]  # type: ignore[no-untyped-call]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, f"a key is given twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Any]:
    return list(yaml.load_all(text, Strict))


def instructions(text: str) -> list[tuple[str, str]]:
    """Of a container file: each with what follows it."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines() if line.strip())]


def container_faults(text: str, root: Path) -> list[str]:
    """Unknown instructions, files that are not there or that nobody lets in, variables without an ARG or ENV, a root user."""
    found, known, user = [], set(), "0"
    for word, rest in instructions(text):
        if word not in _KNOWN:
            found.append(f"no instruction {word}")
        if word == "FROM":
            known_before, known = known, set()
            found += [f"no ARG {name}" for name in _variables(rest) if name not in known_before]
        elif word == "COPY":
            found += [f"nothing to copy: {source}" for source in rest.split()[:-1] if not (root / source).exists()]
        elif word in ("RUN", "USER", "WORKDIR"):
            found += [f"no ARG {name}" for name in _variables(rest) if name not in known]
        if word == "ARG":
            known.add(rest.partition("=")[0])
        elif word == "ENV":
            known |= set(re.findall(r"(\w+)=", rest))
        elif word == "USER":
            user = rest
    return found + ([] if user.isdecimal() and user != "0" else [f"runs as {user}"])


def compose_faults(compose: Mapping[str, Any], folder: Path) -> list[str]:
    """Unknown keys, files that are not there, volumes and services that nobody declares, images of no version."""
    found = [f"no key {key}" for key in compose.keys() - {"name", "services", "volumes"}]
    for name, service in compose["services"].items():
        found += [f"{name}: no key {key}" for key in service.keys() - _SERVICE]
        found += [f"{name}: no service {other}" for other in service.get("depends_on", ()) if other not in compose["services"]]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            there = (folder / source).exists() if source.startswith(".") else source in compose["volumes"]
            found += [] if there else [f"{name}: no {source}"]
        if "build" not in service and not re.search(r":v?\d+(\.\d+)+$", service["image"]):
            found.append(f"{name}: {service['image']} has no version")
    return found


def unit_settings(text: str) -> dict[str, dict[str, str]]:
    """Sections of a unit of systemd; a key that is given twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys have capitals
    parser.read_string(text)
    return {name: dict(section) for name, section in parser.items() if section}


def unit_faults(unit: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Sections and keys that systemd does not know, as far as we use any, and commands without a whole path."""
    found = [f"no section {name}" for name in unit.keys() - _UNIT.keys()]
    found += [f"{name}: no key {key}" for name, section in unit.items() for key in section.keys() - _UNIT.get(name, section.keys())]
    commands = {key: value for key, value in unit.get("Service", {}).items() if key.startswith("Exec")}
    return found + [f"{key}: no whole path" for key, value in commands.items() if not value.startswith("/")]


def kubernetes_faults(resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the resources name and do not have: volumes, config maps, labels, ports; fields that KubeRay does not know."""
    resources = list(resources)
    found = []
    for resource in resources:
        where, spec = f"{resource['kind']} {resource['metadata']['name']}", resource.get("spec", {})
        if resource["kind"] == "RayCluster":
            parts = [("spec", spec), ("head", spec["headGroupSpec"]), *(("workers", group) for group in spec["workerGroupSpecs"])]
            found += [f"{where}: {fault}" for part, value in parts for fault in _wrong_fields(part, value)]
        if resource["kind"] == "Service":
            pods = [pod for pod in pod_templates(resources) if spec["selector"].items() <= pod["metadata"].get("labels", {}).items()]
            ports = {port["name"] for pod in pods for container in pod["spec"]["containers"] for port in container.get("ports", ())}
            found += [f"{where}: no port {port['targetPort']}" for port in spec["ports"] if port["targetPort"] not in ports]
        if resource["kind"] == "Deployment" and spec["selector"]["matchLabels"] != spec["template"]["metadata"]["labels"]:
            found.append(f"{where}: selects other pods than its own")
    maps = {resource["metadata"]["name"] for resource in resources if resource["kind"] == "ConfigMap"}
    return found + [fault for pod in pod_templates(resources) for fault in _pod_faults(pod["spec"], maps)]


def pod_templates(resources: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of everything that starts pods."""
    for resource in resources:
        spec = resource.get("spec", {})
        for owner in (spec, spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", ())):
            if "template" in owner:
                yield {"metadata": {}, **owner["template"]}


def _pod_faults(spec: Mapping[str, Any], maps: set[str]) -> Iterator[str]:
    there = {volume["name"]: volume for volume in spec.get("volumes", ())}
    for container in spec["containers"]:
        mounted = [mount["name"] for mount in container.get("volumeMounts", ())]
        yield from (f"{container['name']}: no volume {name}" for name in mounted if name not in there)
        named = {port.get("name") for port in container.get("ports", ())}
        probes = [probe for key, probe in container.items() if key.endswith("Probe")]
        yield from (f"{container['name']}: no port {probe['httpGet']['port']}" for probe in probes if probe["httpGet"]["port"] not in named)
    yield from (
        f"no config map {volume['configMap']['name']}"
        for volume in there.values()
        if "configMap" in volume and volume["configMap"]["name"] not in maps
    )


def _wrong_fields(part: str, value: Mapping[str, Any]) -> Iterator[str]:
    must, may = _FIELDS[part]
    yield from (f"{part} lacks {name}" for name in sorted(must - value.keys()))
    yield from (f"{part} has no {name}" for name in sorted(value.keys() - must - may))
    params = value.get("rayStartParams") or {}
    yield from (f"{part}: {name} must be a string" for name, given in params.items() if not isinstance(given, str))


def _variables(text: str) -> list[str]:
    return re.findall(r"\$\{?(\w+)\}?", text)
