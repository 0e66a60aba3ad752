"""Small networks and a small task for methods: four classes told apart by a noisy template."""

import torch
from torch import nn
from torch.nn import functional


class Plain(nn.Module):
    """Three convolutions with biases and no norms."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(16, 20, 3, padding=1)
        self.fc = nn.Linear(20, 4)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = functional.relu(self.conv3(x))
        return self.fc(x.mean((2, 3)))


class Residual(nn.Module):
    """Two residual blocks on one stream: the stream is one coupled group."""

    def __init__(self, width=24):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(Block(width, width + 4 * i) for i in range(2))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(width, 4)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.drop(x.mean((2, 3))))


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(y)))


class Task:
    """Endless batches, the n-th a function of n alone."""

    def __init__(self, size=16, dtype=torch.float32):
        self.templates = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
        self.size = size
        self.dtype = dtype

    def batch(self, number):
        generator = torch.Generator().manual_seed(1000 + number)
        labels = torch.randint(4, (self.size,), generator=generator)
        noise = torch.randn(self.size, 3, 8, 8, generator=generator)
        return (self.templates[labels] + noise).to(self.dtype), labels


def train(model, method, task, start, stop, optimizer=None, lr=0.05):
    """Steps ``start`` to ``stop`` of plain training with the method beside it; dropout is seeded by the step."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    model.train()
    for number in range(start, stop):
        torch.manual_seed(number)
        inputs, labels = task.batch(number)
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.step(lr=lr, batch=lambda number=number: task.batch(10_000 + number))
    return optimizer


class Chain(nn.Module):
    """1 -> 4 -> 2 -> 2 features without biases or norms: 4 + 8 + 4 multiply-adds."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(1, 4, bias=False), nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))
