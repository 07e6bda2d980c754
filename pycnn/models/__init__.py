"""Networks that are ready to train."""

from pycnn.models.chains import mnist_cnn, stages
from pycnn.models.resnet import BasicBlock, CifarResNet, resnet20

__all__ = ["BasicBlock", "CifarResNet", "mnist_cnn", "resnet20", "stages"]
