/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What changes the set of entries from outside: put, replace, take, remove,
 * clear, shrink.  Under the gate, an entry that is in the index is live: what
 * ends it there also unlinks it before the gate opens.
 */
#include <errno.h>
#include <stddef.h>

#include "assert.h"
#include "cache_leave.h"
#include "page.h"
#include "rcu.h"

/* What is put: a value that is the caller's until it is in. */
struct newcomer {
	uint64_t key;
	void *value;
	uint64_t weight;
	bool replaces;
	bool pinned;
};

static int check_newcomer(struct seg_cache *c, struct newcomer *n)
{
	struct seg_page *page = n->value;

	if (!n->value)
		return -EINVAL;
	if (c->pages && page->pool != c->pages)
		return -EINVAL;
	if (c->pages && !n->weight) {
		n->weight = seg_page_bytes(page);
		if (!n->weight)
			return page_misuse(page);
	}
	if (!n->weight)
		return -EINVAL;
	/* relaxed: checked again under the gate */
	return n->weight > u64_load_relaxed(&c->max_weight) ? -E2BIG : 0;
}

/* Counts it as resident; unpins are told if that is more than the maximum. */
static void add_resident(struct seg_cache *c, uint64_t weight)
{
	/* relaxed: the gate orders those who write it */
	if (cache_resident(c) + weight > u64_load_relaxed(&c->max_weight))
		/* seq_cst: see C2 */
		u32_store_seq_cst(&c->over, cache_over_always(c) | OVER_HEAVY);
	cache_add_inside(&c->resident, weight);
}

void cache_fill_entry(struct seg_cache *c, struct cache_entry *e, uint64_t key,
		      void *value, uint64_t weight)
{
	cache_index_change(&c->index);
	entry_fill(e, key, value, weight);
	record_set_cause(entry_record(e), 0);
}

void cache_admit(struct seg_cache *c, struct cache_entry *e,
		 const struct cache_record *old, bool pinned)
{
	if (pinned)
		/* Before it is resident, so that the weight is less. */
		cache_weigh_pin(c, entry_weight(e));
	add_resident(c, entry_weight(e));
	cache_count_inside(c, COUNT_INSERTS);
	if (entry_state(entry_look(e)) != ENTRY_LIVE)
		return;
	if (old)
		cache_policy_succeed(&c->policy, old, entry_record(e));
	else
		cache_policy_insert(&c->policy, entry_record(e));
	/* relaxed: a figure */
	u64_store_relaxed(&c->policy_bytes, cache_policy_bytes(&c->policy));
}

/* How much more it will weigh than what it replaces. */
static inline uint64_t added_weight(const struct newcomer *n,
				    const struct cache_entry *old)
{
	uint64_t weight;

	if (n->pinned)
		return 0;
	if (!old || entry_pins(entry_look(old)))
		return n->weight;
	weight = entry_weight(old);
	return n->weight > weight ? n->weight - weight : 0;
}

/* The new entry is in the old one's place before that ends: cache_get.c. */
static void link_entry(struct seg_cache *c, const struct newcomer *n,
		       struct cache_entry *e, struct cache_entry *old,
		       struct farewell *f)
{
	const struct cache_record *heir = NULL;

	cache_fill_entry(c, e, n->key, n->value, n->weight);
	entry_begin(e, 0, n->pinned);
	if (old) {
		if (!(entry_look(old) & ENTRY_LOADING))
			heir = entry_record(old);
		cache_replace_entry(c, old, e, f);
	} else {
		cache_index_insert(&c->index, e);
	}
	cache_admit(c, e, heir, n->pinned);
}

/* The old entry itself may be evicted, or pinned, meanwhile.  False: the
 * farewell is full. */
static bool make_room(struct seg_cache *c, const struct newcomer *n,
		      uint64_t max, struct cache_entry **old,
		      struct farewell *f)
{
	uint64_t added;

	do {
		added = added_weight(n, *old);
		if (!cache_make_room(c, added, max, SEG_CAUSE_EVICTED, f))
			return false;
		if (*old)
			*old = cache_index_get(&c->index, n->key);
	} while (added_weight(n, *old) > added);
	return !farewell_is_full(f);
}

/* What the next put into a full cache looks at lies at random places, each of
 * them far: they come near meanwhile. */
static void look_ahead(struct seg_cache *c)
{
	const struct cache_entry *next;

	/* relaxed: a hint */
	if (!u32_load_relaxed(&c->evicts))
		return;
	next = cache_policy_next(&c->policy);
	if (!next)
		return;
	__builtin_prefetch(cache_policy_place(&c->policy, entry_key(next)), 1);
	cache_index_expect(&c->index, entry_key(next));
}

/* Under the gate; -EAGAIN: the farewell is full, room is still needed. */
static int insert(struct seg_cache *c, const struct newcomer *n,
		  struct farewell *f, struct seg_pin *ret_pin)
{
	/* relaxed: under the gate */
	uint64_t max = u64_load_relaxed(&c->max_weight);
	struct cache_entry *old, *e;

	__builtin_prefetch(cache_policy_place(&c->policy, n->key), 1);
	old = cache_index_get(&c->index, n->key);
	if (old && !n->replaces)
		return -EEXIST;
	if (n->weight > max || !cache_can_hold(c, n->weight))
		return -E2BIG;
	if (!make_room(c, n, max, &old, f))
		return -EAGAIN;
	e = slots_get(&c->slots);
	if (!e)
		return -ENOMEM;
	if (c->pages && !page_move(n->value, PAGE_CALLER, PAGE_CACHE)) {
		slots_put(&c->slots, e);
		return -EBUSY;
	}
	link_entry(c, n, e, old, f);
	look_ahead(c);
	if (ret_pin)
		cache_fill_pin(c, e, entry_look(e), ret_pin);
	return 0;
}

static int put(struct seg_cache *c, struct newcomer *n, struct seg_pin *ret_pin)
{
	struct farewell f;
	int ret;

	if (!c)
		return -EINVAL;
	ret = check_newcomer(c, n);
	if (ret)
		return ret;
	cache_index_expect(&c->index, n->key);
	do {
		cache_lock(c, &f);
		ret = insert(c, n, &f, ret_pin);
		cache_unlock(c, &f);
	} while (ret == -EAGAIN);
	return ret == -EBUSY ? page_misuse(n->value) : ret;
}

int seg_cache_put(struct seg_cache *c, uint64_t key, void *value,
		  uint64_t weight, struct seg_pin *ret_pin)
{
	struct newcomer n = { .key = key, .value = value, .weight = weight,
			      .pinned = ret_pin != NULL };

	return put(c, &n, ret_pin);
}

int seg_cache_replace(struct seg_cache *c, uint64_t key, void *value,
		      uint64_t weight, struct seg_pin *ret_pin)
{
	struct newcomer n = { .key = key, .value = value, .weight = weight,
			      .replaces = true, .pinned = ret_pin != NULL };

	return put(c, &n, ret_pin);
}

/* Under the gate. */
static int take(struct seg_cache *c, uint64_t key, struct farewell *f,
		void **ret_value)
{
	struct cache_entry *e = cache_index_get(&c->index, key);
	void *value;

	if (!e)
		return -ENOENT;
	/* relaxed: under the gate */
	value = ptr_load_relaxed(&e->value);
	if (entry_look(e) & ENTRY_LOADING) {
		cache_remove_entry(c, e, SEG_CAUSE_REMOVED, f);
		return -ENOENT;
	}
	if (!cache_take_entry(c, e))
		return -EBUSY;
	*ret_value = value;
	return 0;
}

int seg_cache_take(struct seg_cache *c, uint64_t key, void **ret_value)
{
	struct farewell f;
	void *value;
	int ret;

	if (!c || !ret_value)
		return -EINVAL;
	if (c->short_reads && rcu_inside())
		return -EDEADLK;
	cache_lock(c, &f);
	ret = take(c, key, &f, &value);
	cache_unlock(c, &f);
	if (ret)
		return ret;
	if (c->short_reads)
		rcu_wait_for_readers();
	if (c->pages && !page_move(value, PAGE_CACHE, PAGE_CALLER))
		seg_die("a cache's page has another owner: memory corrupted");
	*ret_value = value;
	return 0;
}

int seg_cache_remove(struct seg_cache *c, uint64_t key, const void *value)
{
	struct farewell f;
	struct cache_entry *e;

	if (!c)
		return -EINVAL;
	cache_lock(c, &f);
	e = cache_index_get(&c->index, key);
	/* relaxed: under the gate */
	if (e && value && ptr_load_relaxed(&e->value) != value)
		e = NULL;
	if (e)
		cache_remove_entry(c, e, SEG_CAUSE_REMOVED, &f);
	cache_unlock(c, &f);
	return e ? 0 : -ENOENT;
}

int seg_cache_clear(struct seg_cache *c)
{
	if (!c)
		return -EINVAL;
	cache_remove_all(c, SEG_CAUSE_CLEARED);
	return 0;
}

int seg_cache_shrink(struct seg_cache *c, uint64_t weight, uint64_t *ret_weight)
{
	uint64_t evicted;

	if (!c)
		return -EINVAL;
	evicted = cache_evict_to(c, weight, UINT64_MAX, SEG_CAUSE_SHRUNK,
				 true);
	if (ret_weight)
		*ret_weight = evicted;
	return 0;
}

int seg_cache_set_max_weight(struct seg_cache *c, uint64_t max_weight)
{
	struct farewell f;
	bool done;

	if (!c)
		return -EINVAL;
	if (!max_weight || max_weight > CACHE_WEIGHT_MOST)
		return -ERANGE;
	cache_hurry(c);
	cache_lock(c, &f);
	/* relaxed: the gate orders those who write it */
	u64_store_relaxed(&c->max_weight, max_weight);
	cache_policy_set_max(&c->policy, max_weight);
	cache_unlock(c, &f);
	/* As a put, not as a shrink: what slots pin weighs until it is met,
	 * since unpins from slots do not look at the weight (C2). */
	do {
		cache_lock(c, &f);
		done = cache_make_room(c, 0, max_weight, SEG_CAUSE_SHRUNK, &f);
		cache_unlock(c, &f);
	} while (!done);
	return 0;
}
