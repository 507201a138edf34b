"""The space `rexnet` for 5 blocks, the number of the paper's setting of about 0.2M parameters and 30M multiply-adds."""

import dataclasses
from functools import partial

from naxcli import load_space

REXNET = load_space("rexnet")

SPACE = dataclasses.replace(
    REXNET,
    name="rexnet_5",
    configspace=partial(REXNET.configspace, blocks=5),
    reference={
        "straight": {
            "blocks": 5,
            "first_width": 20,
            "rise": 49,
            **dict.fromkeys(REXNET.groups["slopes"], 1),
        }
    },
)
