"""The ensemble: members at their own size, three votes, the mirror image."""

from __future__ import annotations

import pytest
import torch

from pipelines.networks.efficientnet_lite import EfficientNetLite, imagenet, load_in_order
from pipelines.networks.kl_ensemble import KLEnsemble, Member, View, voted
from pipelines.networks.knee_kl import KneeKL

torch.set_num_threads(1)

# two members say class 0 with little doubt between 0 and 1, one is sure of class 1
LOGITS = torch.tensor([[0.55, 0.45], [0.55, 0.45], [0.01, 0.99]]).log()[:, None]


def test_the_soft_vote_is_the_mean_probability() -> None:
    assert voted(LOGITS, "soft")[0].tolist() == pytest.approx([0.37, 0.63], abs=1e-6)


def test_the_hard_vote_counts_members() -> None:
    assert voted(LOGITS, "hard")[0].tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-5)


def test_the_mix_vote_is_the_mean_of_both() -> None:
    expected = [(0.37 + 2 / 3) / 2, (0.63 + 1 / 3) / 2]
    assert voted(LOGITS, "mix")[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_tie_of_the_hard_vote_goes_to_the_more_probable() -> None:
    tied = torch.tensor([[0.6, 0.4], [0.1, 0.9]]).log()[:, None]
    assert int(voted(tied, "hard").argmax()) == 1


@pytest.mark.parametrize("vote", ["soft", "hard", "mix"])
def test_every_vote_sums_to_one(vote: str) -> None:
    torch.manual_seed(0)
    shares = voted(torch.randn(5, 7, 4), vote)  # type: ignore[arg-type]
    assert torch.allclose(shares.sum(1), torch.ones(7))


def test_each_member_sees_the_image_at_its_own_size() -> None:
    seen: list[int] = []

    class Spy(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image.shape[-1])
            return torch.zeros(len(image), 5)

    members = [{"network": "efficientnet_lite0", "image_size": n, "views": [{}]} for n in (64, 96)]
    ensemble = KLEnsemble(members).eval()
    for member in ensemble.members:
        member.network = Spy()
    ensemble(torch.rand(1, 1, 80, 80))
    assert seen == [64, 96]


def test_an_image_and_its_mirror_image_get_the_same_answer() -> None:
    torch.manual_seed(0)
    ensemble = KLEnsemble([{"network": "efficientnet_lite0", "image_size": 64}]).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(ensemble(image), ensemble(image.flip(-1)), atol=1e-5)


def test_a_view_frames_a_part_of_the_image_and_may_be_mirrored() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 80, 80)
    lower = View(down=0.25, side=0.5).of(image, 40)
    assert torch.allclose(lower, image[:, :, 40:, 20:60], atol=1e-5)
    assert torch.allclose(View(mirrored=True).of(image, 80), image.flip(-1))
    assert View().of(image, 80) is image


def test_what_lies_outside_of_the_image_repeats_its_border() -> None:
    image = torch.zeros(1, 1, 40, 40)
    image[:, :, -1] = 1
    wider = View(down=0.5, side=1.0).of(image, 40)
    assert torch.all(wider[:, :, 20:] == 1)


def test_a_member_s_answer_is_the_mean_of_its_own_views() -> None:
    torch.manual_seed(0)
    views = [{}, {"down": -0.1, "side": 0.8}, {"side": 1.2, "mirrored": True}]
    member = {"network": "efficientnet_lite0", "image_size": 64}
    ensemble = KLEnsemble([{**member, "views": views}, member]).eval()
    image = torch.rand(2, 1, 80, 80)
    with torch.inference_mode():
        found = ensemble.member_logits(image)
        for number, seen in enumerate((views, [{}, {"mirrored": True}])):
            one = ensemble.members[number]
            alone = torch.stack([one.answer(image, View(**view)) for view in seen])
            assert torch.allclose(found[number], alone.mean(0), atol=1e-6)
            assert float(alone.std(0).max()) > 0


def test_a_member_without_a_view_is_refused() -> None:
    with pytest.raises(ValueError, match="views is empty"):
        KLEnsemble([{"network": "efficientnet_lite0", "image_size": 64, "views": []}])


def test_exposure_changes_nothing() -> None:
    torch.manual_seed(0)
    member = Member("efficientnet_lite0", 64, 5).eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(member(image), member(image * 0.5 + 0.2), atol=1e-3)


def test_an_unknown_network_or_vote_is_named() -> None:
    with pytest.raises(ValueError, match="no network is called 'alexnet'"):
        Member("alexnet", 64, 5)
    with pytest.raises(ValueError, match="soft, hard or mix"):
        KneeKL([{"network": "efficientnet_lite0", "image_size": 64}], vote="loud")  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["efficientnet_lite0", "efficientnet_lite1"])
def test_a_network_with_imagenet_weights_keeps_every_one_of_them(variant: str) -> None:
    network = imagenet(variant, 1000).eval()
    again = EfficientNetLite(1000, variant).eval()
    assert load_in_order(again, network.state_dict()) == []
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = network(image)
        assert torch.equal(found, again(image))
    assert found.std() > 0.5, "weights that fit nowhere would leave the head as it began"


def test_a_network_without_imagenet_weights_is_named() -> None:
    with pytest.raises(ValueError, match="resnet50; give a file"):
        imagenet("resnet50", 5)
