"""The encoder: timm's function, dropped tokens that leave no trace, padding that nobody sees, positions of its own grid."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor

from hjepa.models.positions import grid_positions
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.vit import VisionTransformer

SMALL = VisionTransformerSettings(patch_size=8, width=16, depth=2, num_heads=2)


@pytest.fixture
def encoder() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(SMALL)


def _pixels_of_patch(images: Tensor, patch: int) -> Tensor:
    """A view of the pixels of one 8 x 8 patch."""
    row, column = divmod(patch, images.shape[-1] // 8)
    return images[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]


def test_whole_images_are_encoded_as_timm_does(encoder: VisionTransformer) -> None:
    theirs = TimmVisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, class_token=False, global_pool="", num_classes=0
    )
    positions = grid_positions((4, 4), 16, torch.device("cpu"))
    theirs.load_state_dict(encoder.state_dict() | {"pos_embed": positions.unsqueeze(0)})
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(encoder(images), theirs(images))


def test_keeping_every_patch_is_dropping_none(encoder: VisionTransformer) -> None:
    images = torch.randn(2, 3, 32, 32)
    order = torch.randperm(16).expand(2, -1)
    torch.testing.assert_close(encoder(images, order, torch.ones(2, 16, dtype=torch.bool)), encoder(images)[:, order[0]])


def test_watched_tokens_are_the_encoded_ones_and_attention_is_what_mixes_them(encoder: VisionTransformer) -> None:
    tokens = encoder.embed(torch.randn(3, 3, 32, 32))
    watched, received = encoder.encode_watched(tokens)
    assert torch.equal(watched, encoder.encode(tokens))
    attention = encoder.blocks[-1].attn
    with torch.no_grad():
        queries, keys, _ = attention._heads(encoder.blocks[-1].norm1(encoder.blocks[0](tokens)))
        numbers = torch.eye(16).expand(3, 2, -1, -1)  # values that say whose they are
        shares = torch.nn.functional.scaled_dot_product_attention(queries, keys, numbers)
    torch.testing.assert_close(received, shares.mean((1, 2)))


def test_dropped_patches_leave_no_trace(encoder: VisionTransformer) -> None:
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    index = torch.tensor([[0, 3, 9], [1, 2, 15]])
    tokens = encoder(images, index)
    tokens.square().sum().backward()
    assert images.grad is not None
    for image, kept in enumerate(index.tolist()):
        for patch in range(16):
            assert bool(_pixels_of_patch(images.grad[image], patch).any()) == (patch in kept)
    changed = images.detach().clone()
    _pixels_of_patch(changed, 7).fill_(100.0)
    assert torch.equal(encoder(changed, index), tokens)


def test_dropping_is_not_zeroing(encoder: VisionTransformer) -> None:
    images = torch.randn(1, 3, 32, 32)
    zeroed = images.clone()
    _pixels_of_patch(zeroed, 7).zero_()
    kept = torch.tensor([[patch for patch in range(16) if patch != 7]])
    assert not torch.allclose(encoder(images, kept), encoder(zeroed)[:, kept[0]], atol=1e-4)


def test_padding_changes_nothing(encoder: VisionTransformer) -> None:
    images = torch.randn(2, 3, 32, 32)
    index = torch.tensor([[4, 5, 6], [1, 2, 15]])
    padded = torch.cat([index, torch.tensor([[0, 0], [11, 3]])], dim=1)
    valid = torch.tensor([[True, True, True, False, False]]).expand(2, -1)
    torch.testing.assert_close(encoder(images, padded, valid)[:, :3], encoder(images, index))


def test_a_row_of_padding_is_finite_with_finite_gradients(encoder: VisionTransformer) -> None:
    index = torch.zeros(2, 3, dtype=torch.int64)
    tokens = encoder(torch.randn(2, 3, 32, 32), index, torch.tensor([[True, False, False], [False, False, False]]))
    tokens.sum().backward()
    assert tokens.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("size", [(8, 8), (24, 24), (40, 56)], ids=str)
def test_crops_of_any_size_have_the_positions_of_their_own_grid(encoder: VisionTransformer, size: tuple[int, int]) -> None:
    images = torch.zeros(1, 3, *size)  # a black image embeds to its positions alone: biases start at 0
    grid = (size[0] // 8, size[1] // 8)
    assert encoder.grid(images) == grid
    torch.testing.assert_close(encoder.embed(images)[0], grid_positions(grid, 16, images.device))
    assert encoder(images).shape == (1, grid[0] * grid[1], 16)


def test_an_image_that_does_not_divide_into_patches_is_refused(encoder: VisionTransformer) -> None:
    with pytest.raises(ValueError, match="crop to 32 x 24"):
        encoder(torch.zeros(1, 3, 33, 31))


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3"):
        VisionTransformerSettings(width=64, num_heads=3)
    with pytest.raises(ValueError, match="above 0"):
        VisionTransformerSettings(depth=0)
