"""VGG16 with batch norm for CIFAR (Simonyan & Zisserman, ICLR 2015; the one-layer classifier of Li et al., ICLR 2017).

14.7 M parameters, 0.31 G multiply-adds at 32 x 32.
"""

from __future__ import annotations

from torch import Tensor, nn

_VGG16 = (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512, None)


class VGG(nn.Module):
    """Convolution, batch norm and ReLU per width in ``plan``; ``None`` is a 2 x 2 max pooling."""

    def __init__(self, plan: tuple[int | None, ...], num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for channels in plan:
            if channels is None:
                layers.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(width, channels, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            width = channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W at least 32 -> (N, num_classes)."""
        out: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return out


def vgg16_bn(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG16-BN for CIFAR: 14.7 M parameters, 0.31 G multiply-adds at 32 x 32."""
    return VGG(_VGG16, num_classes, in_channels)
