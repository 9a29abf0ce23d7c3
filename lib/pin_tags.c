/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See pin_tags.h. */
#include "pin_tags.h"

#include "os.h"

struct pin_record {
	struct slab_item item;
	struct atomic_u64 use;
	struct atomic_u64 tag, key, weight, since_ns;
};

void pin_tags_init(struct pin_tags *t)
{
	t->records.object_bytes = sizeof(struct pin_record);
	t->records.base_bits = 8;
}

bool pin_tags_clear(struct pin_tags *t)
{
	return slab_clear(&t->records);
}

static uint64_t token_of(const struct pin_record *r, uint64_t use)
{
	return use << 32 | r->item.number;
}

uint64_t pin_tags_add(struct pin_tags *t, const struct seg_pin_info *info)
{
	struct pin_record *r = (struct pin_record *)slab_get(&t->records);
	uint64_t use;

	if (!r)
		return 0;
	/* relaxed: ours alone since slab_get() */
	use = u64_load_relaxed(&r->use) + 1;
	/* release, all -> record_read(): they come after the even use before */
	u64_store_release(&r->tag, info->tag);
	u64_store_release(&r->key, info->key);
	u64_store_release(&r->weight, info->weight);
	u64_store_release(&r->since_ns, os_now_ns());
	u64_store_release(&r->use, use);
	return token_of(r, use);
}

bool pin_tags_drop(struct pin_tags *t, uint64_t token)
{
	uint32_t number = (uint32_t)token;
	struct pin_record *r = NULL;
	uint64_t use;

	if (number < slab_used(&t->records))
		r = (struct pin_record *)slab_at(&t->records, number);
	if (!r)
		return false;
	use = u64_load_relaxed(&r->use); /* relaxed: compared */
	/* acq_rel: release -> record_read(), slab_get(); acquire <- add, on
	 * another thread.  One attempt: another use means a stale token. */
	if (token_of(r, use) != token ||
	    !u64_cas_strong_acq_rel(&r->use, &use, use + 1))
		return false;
	slab_put(&t->records, &r->item);
	return true;
}

static bool record_read(struct pin_record *r, uint64_t now_ns,
			struct seg_pin_info *ret)
{
	/* acquire, all <- pin_tags_add(): if one is newer, so is the use */
	uint64_t use = u64_load_acquire(&r->use);
	uint64_t since_ns;

	ret->tag = u64_load_acquire(&r->tag);
	ret->key = u64_load_acquire(&r->key);
	ret->weight = u64_load_acquire(&r->weight);
	since_ns = u64_load_acquire(&r->since_ns);
	ret->held_ns = now_ns > since_ns ? now_ns - since_ns : 0;
	/* relaxed: not before the loads above */
	return (use & 1) && u64_load_relaxed(&r->use) == use;
}

void pin_tags_each(struct pin_tags *t,
		   void (*fn)(void *ctx, const struct seg_pin_info *info),
		   void *ctx)
{
	uint32_t used = slab_used(&t->records);
	uint64_t now_ns = os_now_ns();

	for (uint32_t i = 0; i < used; i++) {
		struct slab_item *item = slab_at(&t->records, i);
		struct seg_pin_info info;

		if (item &&
		    record_read((struct pin_record *)item, now_ns, &info))
			fn(ctx, &info);
	}
}

uint64_t pin_tags_bytes(struct pin_tags *t)
{
	return slab_bytes(&t->records);
}
