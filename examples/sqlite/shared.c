/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See shared.h. */
#include "shared.h"

#include <stdlib.h>
#include <sys/single_threaded.h>

#include "tenant.h"

/* A page left the cache: evicted for anybody's sake, in any thread, or thrown
 * away by its own tenant. */
static void page_left(void *ctx, uint64_t key, void *value, uint64_t weight,
		      enum seg_cause cause)
{
	struct page *page = value;

	(void)ctx;
	(void)key;
	(void)weight;
	(void)cause;
	if (!page->kept)
		tenant_free_page(page);
}

static int create_parts(struct shared *s, int wait_ms)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = s->limit };
	struct seg_pool_options pool = { .size = sizeof(pool),
					 .wait_ms = wait_ms,
					 .tail_bytes = SHARED_TAIL_BYTES,
					 .no_thread = 1 };
	struct seg_cache_options cache = { .size = sizeof(cache),
					   .max_weight = s->limit,
					   .listener = page_left,
					   .name = "SQLite",
					   .no_thread = 1 };
	int ret = seg_budget_create(&limit, &s->budget);

	if (ret)
		return ret;
	pool.budget = cache.budget = s->budget;
	ret = seg_pool_create(&pool, &s->pool);
	if (ret)
		return ret;
	return seg_cache_create(&cache, &s->cache);
}

/* If it can't be started, the next one tries again. */
void shared_upkeep(void)
{
	if (!__libc_single_threaded)
		seg_upkeep_start();
	seg_upkeep(NULL);
}

int shared_create(uint64_t limit, int wait_ms, struct shared **ret_shared)
{
	struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return SQLITE_NOMEM;
	s->limit = limit;
	if (pthread_mutex_init(&s->lock, NULL)) {
		free(s);
		return SQLITE_NOMEM;
	}
	if (create_parts(s, wait_ms)) {
		shared_destroy(s);
		return SQLITE_NOMEM;
	}
	*ret_shared = s;
	return SQLITE_OK;
}

void shared_destroy(struct shared *s)
{
	seg_cache_destroy(s->cache);
	for (unsigned i = 0; i < s->sizes; i++)
		slots_end(&s->slots[i]);
	seg_pool_destroy(s->pool);
	seg_budget_destroy(s->budget);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct slots *shared_slots(struct shared *s, size_t bytes)
{
	struct slots *slots = NULL;
	size_t whole = (bytes + 15) & ~(size_t)15;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < s->sizes && !slots; i++)
		if (s->slots[i].bytes == whole)
			slots = &s->slots[i];
	if (!slots && s->sizes < SHARED_SLOT_SIZES &&
	    slots_init(&s->slots[s->sizes], s->pool, whole))
		slots = &s->slots[s->sizes++];
	pthread_mutex_unlock(&s->lock);
	return slots;
}

uint32_t shared_join(struct shared *s, struct tenant *t)
{
	uint32_t joined;

	pthread_mutex_lock(&s->lock);
	t->id = ++s->ids;
	t->next = s->tenants;
	t->link = &s->tenants;
	if (t->next)
		t->next->link = &t->next;
	s->tenants = t;
	joined = ++s->joined;
	pthread_mutex_unlock(&s->lock);
	return joined;
}

/* Nobody may come back for what is left when the last one went. */
void shared_leave(struct shared *s, struct tenant *t)
{
	bool last;

	pthread_mutex_lock(&s->lock);
	last = --s->joined == 0;
	*t->link = t->next;
	if (t->next)
		t->next->link = t->link;
	pthread_mutex_unlock(&s->lock);
	if (last && __libc_single_threaded)
		seg_pool_trim(s->pool, NULL);
}

bool shared_is_used(struct shared *s)
{
	bool used;

	pthread_mutex_lock(&s->lock);
	used = s->joined != 0;
	pthread_mutex_unlock(&s->lock);
	return used;
}

void shared_before_fork(struct shared *s)
{
	pthread_mutex_lock(&s->lock);
}

void shared_after_fork(struct shared *s)
{
	pthread_mutex_unlock(&s->lock);
}

void shared_forked(struct shared *s)
{
	/* relaxed: there is no other thread */
	atomic_store_explicit(&s->foreign, 1, memory_order_relaxed);
	for (struct tenant *t = s->tenants; t; t = t->next)
		tenant_forked(t);
}

uint64_t shared_room(struct shared *s)
{
	uint64_t most = s->limit / 4 * 3, pinned = 0;

	pthread_mutex_lock(&s->lock);
	for (struct tenant *t = s->tenants; t; t = t->next)
		pinned += tenant_pinned_bytes(t);
	pthread_mutex_unlock(&s->lock);
	return pinned < most ? most - pinned : 0;
}
