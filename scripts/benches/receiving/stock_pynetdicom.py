"""A Storage SCP as pynetdicom's own examples write it: stock_pynetdicom.py PORT FOLDER [fsync]."""

import os
import sys
from pathlib import Path

from pynetdicom import AE, StoragePresentationContexts, evt


def main(port: int, folder: Path, *, synced: bool) -> None:
    """Receive until killed."""

    def store(event: evt.Event) -> int:
        with (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").open("wb") as file:
            file.write(event.encoded_dataset())
            if synced:
                file.flush()
                os.fsync(file.fileno())
        return 0x0000

    entity = AE(ae_title="PYNETDICOM")
    # Its default of 10 counts connections that are just closing, too.
    entity.maximum_associations = 50
    entity.supported_contexts = StoragePresentationContexts
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), synced=sys.argv[3:] == ["fsync"])
