"""Train one member of the ensemble: python -m pipelines.knee_kl_ensemble.train --data DIR ...

`--data` holds `labels.csv` (`file`, `kl`, `split` with train and val, maybe `side`) and the
images. A run writes `checkpoint.pt` after every epoch and every few minutes (`--resume` goes on
from it), `best.safetensors` (the averaged weights of the best epoch) and `log.txt`.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from safetensors.torch import load_file, save_file
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from dicom_node.inference.bundles import load_bundle
from dicom_node.inference.parts import build_parts
from dicom_node.training.allocation import keep_freed_memory
from dicom_node.training.contract import Watch
from dicom_node.training.whole import whole
from pipelines.knee_kl_ensemble.augmentation import augmented, ordinal_targets
from pipelines.knee_kl_ensemble.data import Crops, Knees, by_grade, read_knees
from pipelines.knee_kl_ensemble.evaluate import predictions
from pipelines.knee_kl_ensemble.phantoms import phantom_knees
from pipelines.networks.efficientnet_lite import imagenet
from pipelines.networks.kl_ensemble import NETWORKS, standardised

log = logging.getLogger("knee_kl_ensemble.train")

HERE: Final = Path(__file__).parent
CLASSES: Final = 5


class Trainer:
    """The training of one network at one image size.

    Args:
        settings: `configs/train.yaml`.
        out: Folder of the run.
        watch: Is told of steps and epochs.
        teacher: An ensemble whose answers are a share (`teacher_share`) of what is to be learned,
            beside the labels: one network then learns from several, or from many views of one.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        train: Knees,
        val: Knees,
        out: Path,
        device: torch.device,
        watch: Watch | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        self._watch = watch
        self._settings = settings
        self._train, self._val = train, val
        self._out, self._device = out, device
        self._targets = training_targets(settings, train, teacher)
        self.network = _start(settings).to(device, memory_format=torch.channels_last)
        self._average = copy.deepcopy(self.network).eval()
        if settings["frozen_layers"]:
            self.network.freeze(int(settings["frozen_layers"]))
        body = [
            p
            for n, p in self.network.named_parameters()
            if not n.startswith("head") and p.requires_grad
        ]
        head = [p for n, p in self.network.named_parameters() if n.startswith("head")]
        self._rates = (float(settings["rate"]), float(settings["head_rate"]))
        self._optimizer = torch.optim.AdamW(
            [{"params": body}, {"params": head}],
            lr=self._rates[0],
            weight_decay=float(settings["weight_decay"]),
        )
        self._body = body
        self._per_epoch = max(1, len(train) // int(settings["batch"]))
        self._step = self._epoch = 0
        self._spent = 0.0
        self._best = -math.inf
        self._since_best = 0

    def run(self, epochs: int, seconds: float | None) -> float:
        """Train; return the best epoch's score (accuracy + quadratic kappa on `val`).

        With `seconds` the learning rate falls by the clock where that is ahead of the steps, so
        that a slow machine ends with a finished schedule. After `patience` epochs without a better
        one (0: never) it ends early.
        """
        patience = int(self._settings.get("patience", 0))
        total = epochs * self._per_epoch
        began = time.monotonic() - self._spent
        while self._epoch < epochs:
            order = np.random.default_rng([int(self._settings["seed"]), self._epoch]).permutation(
                len(self._train)
            )
            torch.manual_seed(int(self._settings["seed"]) * 1000 + self._epoch)
            losses, done = [], False
            for start in range(self._step % self._per_epoch, self._per_epoch):
                self._spent = time.monotonic() - began
                progress = self._step / total
                if seconds is not None:
                    progress = max(progress, self._spent / seconds)
                if progress >= 1:
                    done = True
                    break
                batch = order[start * int(self._settings["batch"]) :]
                losses.append(self._train_on(batch[: int(self._settings["batch"])], progress))
                self._step += 1
                if self._watch is not None:
                    self._watch.step(progress, losses[-1])
                if start % 20 == 0:
                    log.info(
                        "epoch %d step %d/%d loss %.4f progress %.3f seconds %.0f",
                        self._epoch, start, self._per_epoch, float(np.mean(losses[-20:])),
                        progress, self._spent,
                    )  # fmt: skip
                if start % 60 == 59:
                    self._save()
            self._epoch += 1
            self._judge(float(np.mean(losses)) if losses else math.nan)
            self._spent = time.monotonic() - began
            self._save()
            if done or 0 < patience <= self._since_best:
                break
        return self._best

    def resume(self) -> None:
        """Go on from `checkpoint.pt`."""
        saved = torch.load(self._out / "checkpoint.pt", map_location="cpu", weights_only=True)
        self.network.load_state_dict(saved["network"])
        self._average.load_state_dict(saved["average"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._step, self._epoch = saved["step"], saved["epoch"]
        self._spent, self._best = saved["spent"], saved["best"]
        self._since_best = saved.get("since_best", 0)

    def _train_on(self, batch: Any, progress: float) -> float:
        settings = self._settings
        size = int(settings["image_size"])
        images = torch.from_numpy(self._train.images[batch])[:, None].float() / 255
        images = augmented(images, size, settings["augmentation"])
        inputs = standardised(images).to(self._device).contiguous(memory_format=torch.channels_last)
        targets = self._targets[torch.from_numpy(batch)]
        head_only = self._step < int(settings["head_steps"])
        warm = min(1.0, (self._step + 1) / max(1, int(settings["warm_up_steps"])))
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for parameter in self._body:
            parameter.requires_grad_(not head_only)
        self.network.train()
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self.network(inputs)
        loss = -(targets.to(self._device) * F.log_softmax(logits.float(), 1)).sum(1).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimizer.step()
        self._follow()
        return float(loss.item())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights towards the trained ones (EMA)."""
        keep = min(float(self._settings["average"]), (1 + self._step) / (10 + self._step))
        pairs = zip(
            self._average.state_dict().values(), self.network.state_dict().values(), strict=True
        )
        for mean, now in pairs:
            if mean.dtype.is_floating_point:
                mean.mul_(keep).add_(now, alpha=1 - keep)
            else:
                mean.copy_(now)

    def _judge(self, loss: float) -> None:
        size = int(self._settings["image_size"])
        logits = predict(self._average, self._val, size, self._device)
        predicted = logits.argmax(1).numpy()
        accuracy = float((predicted == self._val.grades).mean())
        kappa = float(cohen_kappa_score(self._val.grades, predicted, weights="quadratic"))
        score = accuracy + kappa
        log.info(
            "epoch %d done: loss %.4f val accuracy %.4f kappa %.4f%s",
            self._epoch, loss, accuracy, kappa, " (best)" if score > self._best else "",
        )  # fmt: skip
        if self._watch is not None:
            figures = {"loss": loss, "val_accuracy": accuracy, "val_kappa": kappa}
            self._watch.epoch(self._epoch, figures)
        self._since_best += 1
        if score > self._best:
            self._best, self._since_best = score, 0
            save_member(self._average, self._out / "best.safetensors")

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "epoch": self._epoch,
            "spent": self._spent,
            "best": self._best,
            "since_best": self._since_best,
        }
        with whole(self._out / "checkpoint.pt") as partial:
            torch.save(state, partial)


def predict(network: nn.Module, knees: Knees, size: int, device: torch.device) -> Tensor:
    """Return logits [N, 5], averaged over each image and its mirror image."""
    network.eval()
    found = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(knees), 64):
            images = torch.from_numpy(knees.images[start : start + 64])[:, None].float() / 255
            if images.shape[-1] != size:
                images = F.interpolate(
                    images, (size, size), mode="bilinear", antialias=True, align_corners=False
                )
            inputs = standardised(images).to(device).contiguous(memory_format=torch.channels_last)
            found.append((network(inputs).float() + network(inputs.flip(-1)).float()).cpu() / 2)
    return torch.cat(found)


def save_member(network: nn.Module, file: Path) -> None:
    """Write a network's state as safetensors."""
    state = {key: value.contiguous().clone() for key, value in network.state_dict().items()}
    with whole(file) as partial:
        save_file(state, partial)


def training_targets(
    settings: Mapping[str, Any], train: Knees, teacher: nn.Module | None = None
) -> Tensor:
    """Return what is to be learned: [N, 5] probabilities, from labels and the teacher's answers.

    Hinton et al., 2015, arXiv 1503.02531; a teacher no larger than its pupil helps as well
    (Furlanello et al., ICML 2018, arXiv 1805.04770).
    """
    share = float(settings["teacher_share"])
    labels = ordinal_targets(
        torch.from_numpy(train.grades), CLASSES, float(settings["target_spread"])
    )
    if teacher is None or not share:
        return labels
    log.info("the teacher looks at %d images", len(train))
    crops = Crops(torch.from_numpy(train.images), train.grades)
    with torch.autocast("cpu", torch.bfloat16):
        answers = torch.from_numpy(predictions(teacher.eval(), crops)).softmax(1).float()
    return (1 - share) * labels + share * answers


def _start(settings: Mapping[str, Any]) -> nn.Module:
    """Make the network: from given weights, from ImageNet, or from nothing."""
    name = str(settings["network"])
    torch.manual_seed(int(settings["seed"]))
    weights = settings.get("start")
    if weights == "imagenet":
        return imagenet(name, CLASSES)
    network = NETWORKS[name](CLASSES)
    if weights:
        network.load_state_dict(load_file(str(weights)))
    return network


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "train.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--teacher", type=Path, help="weights of the pipeline, for teacher_share; absent: its own"
    )
    parser.add_argument("--seconds", type=float, help="end the schedule after so long")
    parser.add_argument("--limit", type=int, help="at most so many images of each split")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(sys.stdout), logging.FileHandler(options.out / "log.txt")]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True
    )
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    parser_of_settings = ConfigParser()
    parser_of_settings.read_config(str(options.config))
    for change in options.set:
        key, _, value = change.partition("=")
        parser_of_settings[key] = _number(value)
    settings = parser_of_settings.get()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train = read_knees(options.data, "train", limit=options.limit)
    val = read_knees(options.data, "val", limit=options.limit)
    if settings["phantoms"]:
        train = train.joined(phantom_knees(int(settings["phantoms"]), int(settings["seed"])))
    log.info("settings %s", {k: v for k, v in settings.items() if not k.startswith("_")})
    log.info("train %s val %s on %s", by_grade(train.grades), by_grade(val.grades), device)
    teacher = None
    if settings["teacher_share"]:
        bundle = load_bundle(HERE, options.teacher)
        cpu = torch.device("cpu")
        teacher = build_parts(bundle, cpu, channels_last=True, folded=True).network
    trainer = Trainer(settings, train, val, options.out, device, teacher=teacher)
    if options.resume:
        trainer.resume()
    score = trainer.run(int(settings["epochs"]), options.seconds)
    log.info("best accuracy + kappa on val %.4f", score)
    return 0


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    raise SystemExit(main())
