"""Open what every process of one node works with, each when it is first needed."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from node.adapters.database import open_database, open_server
from node.adapters.engine import Tasks
from node.adapters.guard import Guard, Member
from node.adapters.inbox import Inbox
from node.adapters.ledger import Ledger
from node.adapters.model_store import ModelStore
from node.config import Config
from node.machines import end_without_the_lead
from node.queueing import DurableQueue
from node.resources import shipped


@dataclass(kw_only=True)
class Node:
    """The adapters that every process of one node opens, each when it is first needed."""

    config: Config
    # Which process of its machine this is: "receiver", "receiver-2".
    process: str = "node"

    @property
    def is_shared(self) -> bool:
        """Tell whether several machines may be one node."""
        return bool(self.config.node.database)

    @property
    def machine(self) -> str:
        """Give this machine's name."""
        return self.config.node.machine or platform.node()

    @property
    def name(self) -> str:
        """Give the process' name, for what it writes alone and who it is to the others."""
        return f"{self.process}@{self.machine}" if self.is_shared else self.process

    @property
    def data_dir(self) -> Path:
        """Give the data folder."""
        return self.config.node.data_dir

    @property
    def database_path(self) -> Path:
        """Give the database's file."""
        return self.data_dir / "delineate.sqlite"

    @property
    def machine_dir(self) -> Path:
        """Give the folder for what concerns this machine's processes alone."""
        return self.data_dir / "machines" / self.machine if self.is_shared else self.data_dir

    @property
    def pulse_path(self) -> Path:
        """Give the file of the contourer's pulse."""
        return self.machine_dir / "contourer.pulse"

    @cached_property
    def database(self) -> Any:
        """Give the open database."""
        if self.is_shared:
            return open_server(self.config.node.database, self.name)
        return open_database(self.database_path)

    @cached_property
    def ledger(self) -> Ledger:
        """Give the ledger."""
        return Ledger(self.database, worker=self.name)

    @cached_property
    def guard(self) -> Guard:
        """Give this process' guard, on a shared database."""
        role = self.process.partition("-")[0]
        member = Member(name=self.name, machine=self.machine, role=role, pid=os.getpid())
        return Guard(self.database, member, lost=end_without_the_lead)

    @cached_property
    def inbox(self) -> Inbox:
        """Give the inbox."""
        return inbox_of(self.config, self.name)

    @cached_property
    def queue(self) -> DurableQueue:
        """Give the durable queue."""
        return DurableQueue(Tasks(self.database))

    @cached_property
    def models(self) -> ModelStore:
        """Give the model packages: those configured, and those that come with Delineate."""
        return model_store(self.config.node.model_dirs)


def inbox_of(config: Config, writer: str) -> Inbox:
    """Open the inbox as the process of that name writes to it."""
    return Inbox(config.node.data_dir / "inbox", writer=writer, minimum_free_gb=config.node.minimum_free_gb)


def model_store(model_dirs: Sequence[Path]) -> ModelStore:
    """Open folders of model packages, and that of the packages that come with Delineate, each once."""
    folders = {folder.resolve(): folder for folder in (*model_dirs, shipped("models"))}
    return ModelStore(list(folders.values()))
