"""Train the locator and the CNN: python -m pipelines.lumbar_bmd_ct.train --data DIR --output FILE.

`--data` holds labelled CT (see `anatomy.load_folder`). Vertebrae with a measured BMD (`bmd.csv`)
are learnt as they are; for the others, and for the phantoms that are mixed in, BMD is simulated.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from pipelines.lumbar_bmd_ct.anatomy import load_folder, phantom_anatomies
from pipelines.lumbar_bmd_ct.bmd_training import build_bank, narrow_phantoms, train_bmd
from pipelines.lumbar_bmd_ct.bundle import HERE, save_weights
from pipelines.lumbar_bmd_ct.locator_training import train_locator

log = logging.getLogger("lumbar_bmd_ct.train")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="folder of labelled CT (may be given again); none: phantoms only",
    )
    parser.add_argument("--output", type=Path, required=True, help="weight file (.safetensors)")
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "train.yaml")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--seconds", type=float, help="at most so long for each network")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_num_threads(options.threads)

    settings = ConfigParser()
    settings.read_config(options.config)
    torch.manual_seed(settings["seed"])
    network = settings.get_parsed_content("network_def")
    real = [anatomy for folder in options.data for anatomy in load_folder(folder)]
    log.info("%d labelled CT: %s", len(real), ", ".join(a.name for a in real) or "none")

    where = settings["locator"]
    seeds = range(where["first_seed"], where["first_seed"] + where["phantoms"])
    # Without S1 a volume cannot teach where to count from.
    whole = [a for a in real if (a.labels == 1).any()]
    train_locator(
        network.locator,
        [*whole, *phantom_anatomies(seeds)],
        where["steps"],
        options.seconds or where["seconds"],
        settings["seed"],
        where["real_share"],
        where["batch"],
        log.info,
    )
    how = settings["bmd"]
    seeds = range(how["first_seed"], how["first_seed"] + how["phantoms"])
    bank = build_bank([*real, *narrow_phantoms(seeds)])
    log.info("%d axial images", len(bank.hu))
    train_bmd(
        network.bmd,
        bank,
        how["steps"],
        options.seconds or how["seconds"],
        settings["seed"],
        how["real_share"],
        how["batch"],
        log.info,
    )
    digest = save_weights(network, options.output)
    log.info("%s sha256 %s", options.output, digest)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
