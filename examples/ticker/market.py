"""Invented prices that move like real ones: a random walk in logarithms, with a pull to the start."""

import math
import random
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
        self.sequence = 0

    def step(self) -> list[dict[str, object]]:
        """Return the ticks of one step: symbol, price, change since the start in percent."""
        ticks: list[dict[str, object]] = []
        for symbol, price in self.prices.items():
            if self.random.random() < 0.5:
                continue
            distance = math.log(price / START[symbol])
            move = self.random.gauss(0, VOLATILITY[symbol]) - 0.001 * distance
            price *= math.exp(move)
            self.prices[symbol] = price
            ticks.append(self.tick(symbol))
        return ticks

    def tick(self, symbol: str) -> dict[str, object]:
        """Return the current tick of `symbol`."""
        self.sequence += 1
        price = self.prices[symbol]
        digits = 5 if price < 10 else 2
        return {
            "n": self.sequence,
            "symbol": symbol,
            "price": f"{price:.{digits}f}",
            "change": round((price / START[symbol] - 1) * 100, 3),
        }
