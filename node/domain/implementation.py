"""How the node names its own implementation to peers and in files."""

from node import __version__

# PS3.7 D.3.3.2: the same for every association and every file; 2.25 and a UUID, PS3.5 B.2.
IMPLEMENTATION_CLASS_UID = "2.25.257496515514016500133124360768943186345"
# PS3.7 D.3.3.2.3: SH, 1 to 16 characters.
IMPLEMENTATION_VERSION_NAME = f"DELINEATE_{__version__}"[:16]
