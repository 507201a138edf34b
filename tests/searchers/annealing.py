"""Simulated annealing: from where it stands to a random neighbour, also to a worse one as long as it is hot."""

import math
import random

from ConfigSpace import Configuration
from ConfigSpace.util import get_random_neighbor


class Annealing:
    def __init__(self, space, *, seed, is_open):
        space.seed(seed)
        self.space, self.is_open = space, is_open
        self.random = random.Random(seed)
        self.config, self.cost, self.temperature = None, math.inf, 0.1

    def ask(self):
        for _ in range(5 if self.config else 0):
            place = Configuration(self.space, values=self.config)
            neighbour = get_random_neighbor(place, seed=self.random.randrange(2**31))
            if self.is_open(neighbour):
                return neighbour
        return self.space.sample_configuration()

    def tell(self, config, cost):
        self.temperature *= 0.97
        if cost is None:
            return
        if cost < self.cost or self.random.random() < math.exp((self.cost - cost) / self.temperature):
            self.config, self.cost = config, cost
