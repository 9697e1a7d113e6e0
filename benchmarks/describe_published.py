"""Write the descriptions of published shapes that come with the package, by the versions that are installed.

python benchmarks/describe_published.py      # after a new torch or transformers, a new shape, or new roles
"""

from __future__ import annotations

from apet.backbones.described import SHIPPED, ship

if __name__ == "__main__":
    ship()
    files = list(SHIPPED.glob("*.json.gz"))
    print(f"{len(files)} descriptions, {sum(f.stat().st_size for f in files):,} bytes")
