/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See slab.h. */
#include "slab.h"

#include "os.h"

#define NUMBER_MASK (((uint64_t)1 << SLAB_NUMBER_BITS) - 1)
#define TAG_ONE ((uint64_t)1 << SLAB_NUMBER_BITS)

/* Chunk k starts at number (base << k) - base. */
static unsigned chunk_of(const struct slab *s, uint32_t number)
{
	uint32_t n = (number >> s->base_bits) + 1;

	return 31 - (unsigned)__builtin_clz(n);
}

static size_t chunk_bytes(const struct slab *s, unsigned chunk)
{
	return s->object_bytes << (s->base_bits + chunk);
}

static struct slab_item *item_in(const struct slab *s, char *chunk,
				 uint32_t number)
{
	uint32_t first = ((uint32_t)1 << (s->base_bits + chunk_of(s, number))) -
			 ((uint32_t)1 << s->base_bits);

	return (void *)(chunk + (size_t)(number - first) * s->object_bytes);
}

static struct slab_item *item_of(struct slab *s, uint32_t number)
{
	/* acquire <- chunk_make() */
	return item_in(s, ptr_load_acquire(&s->chunk[chunk_of(s, number)]),
		       number);
}

static bool chunk_make(struct slab *s, unsigned chunk)
{
	void *found = NULL;
	void *fresh;

	/* acquire <- the exchange below */
	if (chunk >= SLAB_CHUNKS || ptr_load_acquire(&s->chunk[chunk]))
		return chunk < SLAB_CHUNKS;
	fresh = os_map(chunk_bytes(s, chunk), 64);
	if (!fresh)
		return false;
	/* acq_rel: release -> item_of(); acquire <- the one that was first */
	if (!ptr_cas_strong_acq_rel(&s->chunk[chunk], &found, fresh))
		os_unmap(fresh, chunk_bytes(s, chunk));
	return true;
}

static struct slab_item *get_recycled(struct slab *s)
{
	/* acquire <- slab_put(): the link */
	uint64_t old = u64_load_acquire(&s->head);
	struct slab_item *item;
	uint64_t new;

	do {
		if (!(old & NUMBER_MASK))
			return NULL;
		item = item_of(s, (uint32_t)(old & NUMBER_MASK) - 1);
		/* relaxed: ordered by the head; a stale one fails below */
		new = ((old & ~NUMBER_MASK) + TAG_ONE) |
		      u64_load_relaxed(&item->next);
		/* acquire <- slab_put(): the last owner's writes; retries only
		 * when another thread got or put */
	} while (!u64_cas_weak_acquire(&s->head, &old, new));
	return item;
}

static struct slab_item *get_unused(struct slab *s)
{
	/* relaxed: compared; the chunk is acquired in item_of() */
	uint32_t number = u32_load_relaxed(&s->used);
	struct slab_item *item;

	do {
		if (!chunk_make(s, chunk_of(s, number)))
			return NULL;
		/* relaxed: picks the winner; retries when another was it */
	} while (!u32_cas_weak_relaxed(&s->used, &number, number + 1));
	item = item_of(s, number);
	item->number = number;
	return item;
}

struct slab_item *slab_get(struct slab *s)
{
	struct slab_item *item = get_recycled(s);

	return item ? item : get_unused(s);
}

void slab_put(struct slab *s, struct slab_item *item)
{
	uint64_t old = u64_load_relaxed(&s->head); /* relaxed: compared */

	do {
		/* relaxed: released by the exchange */
		u64_store_relaxed(&item->next, old & NUMBER_MASK);
		/* release -> slab_get(); retries as there */
	} while (!u64_cas_weak_release(&s->head, &old,
				       (old & ~NUMBER_MASK) |
					       (item->number + 1)));
}

uint32_t slab_used(struct slab *s)
{
	/* relaxed: a count; the chunk is acquired in slab_at() */
	return u32_load_relaxed(&s->used);
}

struct slab_item *slab_at(struct slab *s, uint32_t number)
{
	/* acquire <- chunk_make() */
	char *chunk = ptr_load_acquire(&s->chunk[chunk_of(s, number)]);

	return chunk ? item_in(s, chunk, number) : NULL;
}

uint64_t slab_bytes(struct slab *s)
{
	uint64_t bytes = 0;

	for (unsigned k = 0; k < SLAB_CHUNKS; k++)
		/* relaxed: only whether it is there */
		if (ptr_load_relaxed(&s->chunk[k]))
			bytes += chunk_bytes(s, k);
	return bytes;
}

bool slab_clear(struct slab *s)
{
	/* relaxed, both: nobody else is there */
	u64_store_relaxed(&s->head, 0);
	u32_store_relaxed(&s->used, 0);
	for (unsigned k = SLAB_CHUNKS; k-- > 0;) {
		/* relaxed: nobody else is there */
		void *chunk = ptr_load_relaxed(&s->chunk[k]);

		if (!chunk)
			continue;
		if (os_unmap(chunk, chunk_bytes(s, k)))
			return false;
		ptr_store_relaxed(&s->chunk[k], NULL); /* relaxed: as above */
	}
	return true;
}
