"""Use case of products: keep what the operator's file has as rows that orders refer to."""

from core.app import App


async def keep_products(app: App) -> None:
    """Keep what the file has as rows. What is not in it any more stays known to its orders, and is not sold."""
    if not await _stale(app):
        return
    async with app.storage.transaction() as tx:
        known = {product.key: product for product in await tx.products.all()}
        for offer in app.offers:
            await tx.products.keep(offer.applied(known.get(offer.key)))
        sold = {offer.key for offer in app.offers}
        for product in known.values():
            if product.key not in sold and product.listed:
                await tx.products.withdraw(product.id)


async def _stale(app: App) -> bool:
    """Tell whether the rows are not what the file says."""
    async with app.storage.read() as tx:
        known = {product.key: product for product in await tx.products.all()}
    sold = {offer.key for offer in app.offers}
    return any(
        offer.key not in known or offer.applied(known[offer.key]) != known[offer.key] for offer in app.offers
    ) or any(product.listed and product.key not in sold for product in known.values())
