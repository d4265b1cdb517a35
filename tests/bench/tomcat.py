"""Tomcat 10 with its clustered sessions, from Debian's package: the ancestor that session writes are compared with.

Each node is a CATALINA_BASE of its own, made here, with static membership and synchronous replication; all of them
serve `peers/index.jsp`, the page of `tests.bench.form`.
"""

import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import jinja2

from tests.bench.errors import MachineError
from tests.bench.install import Package
from tests.bench.processes import Process, answers, finished, free_ports, running

HOME = Path("/usr/share/tomcat10")
CONFIGURATION = Path("/etc/tomcat10")
COMPILER = Path("/usr/share/java/eclipse-jdt-core.jar")
"""What compiles the page; Debian's start script puts it on the class path."""

JAVA = Package("default-jre-headless", "java")
TOMCAT = Package("tomcat10", str(HOME / "bin/bootstrap.jar"))
TEMPLATES = Path(__file__).with_name("peers")
THREADS = 40
VERSION_TIMEOUT_S = 30
COMPILE_TIMEOUT_S = 60.0
"""The first answer takes the compiling of the page."""

MANAGERS = ("BackupManager", "DeltaManager")


def version() -> str:
    """What the installed Tomcat says it is."""
    command = ["java", "-cp", str(HOME / "lib/catalina.jar"), "org.apache.catalina.util.ServerInfo"]
    told = finished(command, VERSION_TIMEOUT_S)
    found = re.search(r"Server number:\s*(\d+\.\d+\.\d+)", told)
    if found is None:
        raise MachineError(f"Tomcat tells no version, but: {told}")
    return found[1]


class Tomcats:
    """So many Tomcats with one session manager. Same shape as `fleet.Fleet`, as far as the benches need it."""

    def __init__(
        self,
        manager: str,
        size: int,
        directory: Path,
        *,
        core: int | None = None,
        ports: tuple[Sequence[int], Sequence[int]] | None = None,
        heap_mib: int = 256,
    ) -> None:
        """`ports`: for users, and for the cluster; free ones if None."""
        if not COMPILER.exists():
            raise MachineError(f"{COMPILER} is not there; it comes with Debian's tomcat10")
        chosen = free_ports(2 * size)
        self.ports, self.cluster = ports if ports is not None else (chosen[:size], chosen[size:])
        self._manager = manager
        self._directory = directory
        self._core = core
        self._heap_mib = heap_mib
        self.processes: list[Process] = []
        self._running = ExitStack()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def __enter__(self) -> Self:
        try:
            for number in range(1, len(self.ports) + 1):
                name = f"tomcat{number}"
                command = self._command(number)
                self.processes.append(
                    self._running.enter_context(running(name, command, self._core, self._directory))
                )
            for port, process in zip(self.ports, self.processes, strict=True):
                process.wait_until(answers(port, timeout_s=COMPILE_TIMEOUT_S), "answering")
            for process in self.processes:
                process.wait_until(partial(self._has_met, process), "a member of its cluster")
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def _has_met(self, process: Process) -> bool:
        """Each of the others was logged as a member; without that nothing would be replicated."""
        return process.log.read_text(errors="replace").count("memberAdded") >= len(self.ports) - 1

    def _command(self, number: int) -> list[str]:
        base = self._directory / f"tomcat{number}.d"
        for name in ("conf", "lib", "logs", "temp", "work", "webapps/ROOT/WEB-INF"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for name in ("web.xml", "catalina.properties", "context.xml"):
            shutil.copyfile(CONFIGURATION / name, base / "conf" / name)
        with (base / "conf/catalina.properties").open("a") as properties:
            properties.write(
                "tomcat.util.scan.StandardJarScanFilter.jarsToSkip=*.jar\n"
            )  # no tag library is used
        (base / "lib/compiler.jar").symlink_to(COMPILER)
        for name in ("index.jsp", "fill.jsp"):
            shutil.copyfile(TEMPLATES / name, base / "webapps/ROOT" / name)
        shutil.copyfile(TEMPLATES / "web.xml", base / "webapps/ROOT/WEB-INF/web.xml")
        others = [(other, port) for other, port in enumerate(self.cluster, 1) if other != number]
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        text = environment.from_string((TEMPLATES / "tomcat.xml").read_text()).render(
            http=self.ports[number - 1],
            cluster=self.cluster[number - 1],
            number=number,
            others=others,
            manager=self._manager,
            threads=THREADS,
        )
        (base / "conf/server.xml").write_text(text)
        return [
            *("java", f"-Xmx{self._heap_mib}m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"),
            *("-cp", f"{HOME}/bin/bootstrap.jar:{HOME}/bin/tomcat-juli.jar"),
            *(f"-Dcatalina.home={HOME}", f"-Dcatalina.base={base}", f"-Djava.io.tmpdir={base}/temp"),
            *("org.apache.catalina.startup.Bootstrap", "start"),
        ]
