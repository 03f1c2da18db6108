"""Invented prices that move like real ones: a random walk in logarithms, with a pull to the start."""

import math
import random
import time
from dataclasses import dataclass, field

START = {"BTC-USD": 97_421.15, "ETH-USD": 3_388.40, "SOL-USD": 241.07, "EUR-USD": 1.0842, "XAU-USD": 2_716.30}
VOLATILITY = {"BTC-USD": 6e-4, "ETH-USD": 8e-4, "SOL-USD": 1.1e-3, "EUR-USD": 6e-5, "XAU-USD": 1.5e-4}


@dataclass
class Market:
    """The prices of all symbols; `step` moves some of them."""

    seed: int | None = None
    prices: dict[str, float] = field(default_factory=lambda: dict(START))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def step(self) -> dict[str, dict[str, object]]:
        """Return the ticks of one step, by symbol."""
        ticks = {}
        for symbol, price in self.prices.items():
            if self.random.random() < 0.5:
                continue
            distance = math.log(price / START[symbol])
            move = self.random.gauss(0, VOLATILITY[symbol]) - 0.001 * distance
            self.prices[symbol] = price * math.exp(move)
            ticks[symbol] = self.tick(symbol)
        return ticks

    def tick(self, symbol: str) -> dict[str, object]:
        """Return the current price, its change since the start in percent, and the time in seconds."""
        price = self.prices[symbol]
        digits = 5 if price < 10 else 2
        return {
            "price": f"{price:.{digits}f}",
            "change": round((price / START[symbol] - 1) * 100, 3),
            "time": round(time.time(), 3),
        }
