"""Orders: who buys what, how many, at which price.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe.domain import Domain, Field, counted, phrases
from outrider.demo.recipe.words import Writer


def _lines(writer: Writer) -> list[dict[str, object]]:
    names = {writer.thing() for _ in range(writer.integer(1, 3))}
    return [{"name": name, "quantity": writer.integer(1, 20)} for name in sorted(names)]


ORDER: Final = Domain(
    "order",
    {
        "customer": Field(
            "string",
            Writer.person,
            "customer",
            ("buyer", "client", "customer name"),
            (
                "It was ordered by {}.",
                "{} placed the order.",
                "The buyer is {}.",
                "{} is the buyer.",
                "We got this order from {}.",
                "Bill it to {}.",
                "This order came from {}.",
                "It is {} who ordered it.",
            ),
        ),
        "item": Field(
            "string",
            Writer.item,
            "item",
            ("product", "article", "goods"),
            (
                "They want the {}.",
                "The product is a {}.",
                "It is for one kind of {}.",
                "It is about the {}.",
                "Pack the {}.",
                "We have to send the {}.",
                "What they chose is the {}.",
                "They asked for the {}.",
            ),
        ),
        "quantity": Field(
            "integer",
            lambda writer: writer.integer(2, 99),
            "quantity",
            ("count", "amount", "qty"),
            (
                "{} pieces in all.",
                "They need {} of them.",
                "Make it {} units.",
                "The count is {}.",
                "They take {} of it.",
                "{} units are wanted.",
                "Send {} pieces, please.",
                "We need {} units.",
            ),
        ),
        "price": Field(
            "number",
            Writer.price,
            "price",
            ("unit price", "cost", "price each"),
            (
                "Each costs {}.",
                "One piece costs {}.",
                "The price is {} each.",
                "A piece is {}.",
                "The unit price is {}.",
                "It costs {} each.",
                "It sells at {} a piece.",
                "We charge {} for one.",
            ),
        ),
        "city": Field(
            "string",
            Writer.city,
            "city",
            ("ship to", "destination", "delivery city"),
            (
                "Ship it to {}.",
                "It goes to {}.",
                "Delivery is to {}.",
                "The parcel goes to {}.",
                "Send it to {}.",
                "Deliver to {}.",
                "Please deliver it to {}.",
                "It travels to {}.",
            ),
        ),
        "order_id": Field(
            "string",
            Writer.code,
            "order number",
            ("order id", "reference", "id"),
            (
                "The order is {}.",
                "Order reference {}.",
                "Our number is {}.",
                "See order {}.",
                "The number of the order is {}.",
                "It is order {}.",
                "It is filed under {}.",
                "Look for order {}.",
            ),
        ),
        "lines": Field(
            "objects",
            _lines,
            "order lines",
            ("items", "lines", "products"),
            (
                "It contains {}.",
                "In the basket: {}.",
                "They bought {}.",
                "There are {} in it.",
                "Pack {}.",
                "The order has {}.",
                "The parcel holds {}.",
                "Please send {}.",
            ),
            counted,
        ),
        "gift": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "gift",
            ("is gift", "gift wrap", "present"),
            (
                "This order {}.",
                "Note that it {}.",
                "By the way, it {}.",
                "Please note that it {}.",
                "This one {}.",
                "The parcel {}.",
                "And it {}.",
                "As far as we know it {}.",
            ),
            phrases("is a gift", "is not a gift"),
        ),
    },
    (
        "{customer} ordered {quantity} pieces of the {item} for {price} each.",
        "{customer} ordered {quantity} of the {item}, to be sent to {city}.",
        "Order {order_id} from {customer}: {quantity} x {item} at {price}.",
        "We sold {quantity} of the {item} to {customer}.",
        "{customer} in {city} bought {lines}.",
        "Order {order_id}: {lines} for {customer}.",
        "Please send {quantity} of your {item} to {city}.",
        "{customer} would like to buy {quantity} of the {item} at {price} each.",
        "{customer} placed order {order_id}: {quantity} pieces of the {item}.",
        "Send {lines} to {customer} in {city}.",
        "From {customer} in {city}: {quantity} of the {item} at {price}.",
        "{quantity} of the {item} were bought by {customer} from {city}.",
        "A new order, {order_id}, arrived: {customer} wants {quantity} of the {item}.",
        "The buyer {customer} wants {quantity} of the {item} in {city}.",
    ),
)
