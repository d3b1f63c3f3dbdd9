"""The chip that programs are compiled for, as a value: enough for a process that has no GPU."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh

from muxjax.device.programs.sources import RecountSource
from muxjax.errors import ConfigError
from muxjax.models.sharding import Devices

_SHIPPED = {"NVIDIA H200": "h200.txtpb"}
"""Descriptions that come with the package, by JAX's name of the chip. XLA printed them on such a chip, all but its NVLinks, of which it
told nothing where there was one chip: for chips without any, sums over devices are NCCL's, and not kernels that fit few tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A GPU.

    Args:
      device_kind: JAX's name of it.
      description: a text proto of XLA's GpuTargetConfig.
    """

    device_kind: str
    description: str

    def devices(self, count: int) -> Devices:
        """So many of them on one host, to be compiled for, not to be run on."""
        jax.devices()  # registers the plugin's topologies
        name = f"1x1x{count}"
        topology = topologies.get_topology_desc(platform="cuda", topology_name=name, topology=name, target_config=self.description)
        return Devices(tuple(topology.devices))

    @property
    def mesh(self) -> AbstractMesh:
        """What Pallas reads the chip from while it traces."""
        device = AbstractDevice(device_kind=self.device_kind, num_cores=_cores(self.description), platform="gpu")
        return AbstractMesh((), (), abstract_device=device)


def shipped(chip: str) -> Target:
    """The target of a chip by a name of it, such as "H200".

    Raises:
      ConfigError: no description of it comes with the package.
    """
    for kind, file in _SHIPPED.items():
        if chip.lower() in (kind.lower(), kind.split()[-1].lower()):
            return Target(device_kind=kind, description=Path(__file__).with_name(file).read_text())
    raise ConfigError(f"chip must be one of {', '.join(kind.split()[-1] for kind in _SHIPPED)}, got {chip!r}", field="chip")


def attached(device: jax.Device) -> Target | None:
    """The target of a device in hand: as XLA prints it while it compiles for it. None where that is no GPU, or XLA does not tell."""
    if device.platform != "gpu":
        return None
    smallest = RecountSource(vocab=1, slots=1, tp=1).lower(Devices((device,)))
    with tempfile.TemporaryDirectory() as folder:
        smallest.compile(compiler_options={"xla_dump_to": folder})
        described = sorted(Path(folder).glob("*target_config*"))
        return Target(device_kind=device.device_kind, description=described[0].read_text()) if described else None


def _cores(description: str) -> int:
    return int(description.partition("core_count:")[2].split()[0])
