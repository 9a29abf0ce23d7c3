/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See tenant.h. */
#include "tenant.h"

#include <stdlib.h>

#include "stubs.h"

enum {
	RESTING_SHARE = 32,	/* of the limit, for what rests, of all */
	ALIGN = 16,
	INSIDE_MOST = 1024,	/* a page this small lies beside its extra */
	UPKEEP_EVERY = 1024,	/* misses */
	ROOM_EVERY = 16,	/* misses between two looks at all tenants, */
	ROOM_PART = 64,		/* ... or when so much of the room is used */
	SMALL_SHARE = 64	/* who holds less of the limit need not ask */
};

static const struct timespec past;	/* a deadline: no waiting */
static const struct seg_alloc_options at_once = {
	.size = sizeof(at_once), .deadline = &past
};

static size_t align(size_t bytes)
{
	return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static uint64_t key_of(const struct tenant *t, uint32_t number)
{
	return (uint64_t)t->id << 32 | number;
}

/* ------------------------------------------------------------ its own life */

static uint32_t page_weight(const struct tenant *t)
{
	uint32_t segment = t->page_bytes < SEG_MIN_BYTES ? SEG_MIN_BYTES :
							   t->page_bytes;

	return (uint32_t)t->slots->bytes + (t->inside ? 0 : segment);
}

struct tenant *tenant_create(struct shared *s, int page_bytes, int extra_bytes,
			     bool purgeable)
{
	struct tenant *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->shared = s;
	t->page_bytes = (uint32_t)page_bytes;
	t->extra_bytes = (uint32_t)extra_bytes;
	t->purgeable = purgeable;
	t->full = purgeable;
	t->inside = page_bytes <= INSIDE_MOST;
	t->slots = shared_slots(s, align(sizeof(struct page)) +
				   align(t->extra_bytes) +
				   (t->inside ? t->page_bytes : 0));
	atomic_init(&t->references, 1);
	if (!t->slots || !stubs_init(t)) {
		free(t);
		return NULL;
	}
	t->weight = page_weight(t);
	t->most_resting = s->limit / RESTING_SHARE / shared_join(s, t) /
			  t->page_bytes;
	return t;
}

static void let_go(struct tenant *t)
{
	/* acq_rel: the last one frees what all others have written */
	if (atomic_fetch_sub_explicit(&t->references, 1,
				      memory_order_acq_rel) == 1)
		free(t);
}

void tenant_destroy(struct tenant *t)
{
	tenant_truncate(t, 0);
	stubs_end(t);
	shared_leave(t->shared, t);
	let_go(t);
}

/* ------------------------------------------------------------------- pages */

void tenant_free_page(struct page *page)
{
	struct tenant *t = page->tenant;

	if (!t->inside)
		seg_release(t->shared->pool, page->sqlite.pBuf);
	slots_give(page);
	let_go(t);
}

static struct page *new_page(struct tenant *t,
			     const struct seg_alloc_options *how)
{
	struct page *page = slots_take(t->slots, how);
	char *extra = (char *)page + align(sizeof(*page));
	void *bytes;

	if (!page)
		return NULL;
	bytes = t->inside ? extra + align(t->extra_bytes) :
		seg_alloc_with(t->shared->pool, t->page_bytes, how);
	if (!bytes) {
		slots_give(page);
		return NULL;
	}
	*page = (struct page){ .sqlite = { .pBuf = bytes, .pExtra = extra },
			       .tenant = t };
	/* relaxed: a page holds the tenant from here on; see let_go() */
	atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
	return page;
}

/* Takes it out of the cache, in which it is pinned; it stays the tenant's. */
static void make_private(struct tenant *t, struct stub *s)
{
	struct seg_pin pin = s->pin;

	s->page->kept = 1;
	seg_cache_remove(t->shared->cache, key_of(t, s->number), s->page);
	seg_unpin(&pin);
	s->page->kept = 0;
	s->state = STUB_PRIVATE;
}

/* The page and its stub go, whatever their state. */
static void drop(struct tenant *t, struct stub *s)
{
	if (s->state == STUB_HELD)
		make_private(t, s);
	if (s->state == STUB_PRIVATE) {
		tenant_add(&t->near, (uint32_t)-1);
		tenant_free_page(s->page);
	} else {
		/* Unless it was evicted. */
		seg_cache_remove(t->shared->cache, key_of(t, s->number), NULL);
	}
	stub_unlink(t, s);
	stub_give(t, s);
}

/* Into the cache with it, for the first time or after a change of its name. */
static bool enter_cache(struct tenant *t, struct stub *s)
{
	if (seg_cache_put(t->shared->cache, key_of(t, s->number), s->page,
			  t->weight, &s->pin))
		return false;
	s->state = STUB_HELD;
	return true;
}

/* Lets the cache have what rests; a page that does not fit in there goes. */
static void leave(struct tenant *t, struct stub *s)
{
	struct seg_pin pin;

	if (s->state == STUB_PRIVATE && !enter_cache(t, s)) {
		drop(t, s);
		return;
	}
	pin = s->pin;
	stub_remove(&t->resting, s);
	s->resting = 0;
	s->state = STUB_LEFT;
	tenant_add(&t->near, (uint32_t)-1);
	stub_append(&t->left, s);
	seg_unpin(&pin);
}

void tenant_rest_less(struct tenant *t, uint64_t most)
{
	while (tenant_load(&t->resting.count) > most)
		leave(t, stub_oldest(&t->resting));
}

/* The oldest of those in the cache, which it leaves; or NULL. */
static struct page *recycle_left(struct tenant *t)
{
	struct stub *s;
	void *page = NULL;

	while (!page && (s = stub_oldest(&t->left))) {
		if (seg_cache_take(t->shared->cache, key_of(t, s->number),
				   &page))
			page = NULL;	/* evicted before */
		stub_unlink(t, s);
		stub_give(t, s);
	}
	return page;
}

/* Of those that rest. */
static struct page *recycle_resting(struct tenant *t)
{
	struct stub *s = stub_oldest(&t->resting);
	struct page *page;

	if (!s)
		return NULL;
	if (s->state == STUB_HELD)
		make_private(t, s);
	page = s->page;
	tenant_add(&t->near, (uint32_t)-1);
	stub_unlink(t, s);
	stub_give(t, s);
	return page;
}

/* A page that SQLite does not hold, for its memory to be used again. */
static struct page *recycle(struct tenant *t)
{
	struct page *page = recycle_left(t);

	if (!page)
		page = recycle_resting(t);
	if (page)
		/* relaxed: a counter */
		atomic_fetch_add_explicit(&t->shared->recycled, 1,
					  memory_order_relaxed);
	return page;
}

/* ------------------------------------------------------------------ misses */

static void look_at_room(struct tenant *t)
{
	uint64_t misses;

	t->room = shared_room(t->shared);
	misses = t->room / t->weight / ROOM_PART;
	t->room_good_for = misses < 1 ? 1 :
			   misses > ROOM_EVERY ? ROOM_EVERY : (uint32_t)misses;
}

/*
 * How hard to try for a page without which SQLite can do: it would write one
 * of its changed pages and use that.  A connection may hold as much as all
 * connections leave, so n of them that want all get an (n + 1)th each, and as
 * much is left for one more.  False: it holds as much as it should; from half
 * of that on it takes no page from others.
 */
static bool may_grow(struct tenant *t, struct seg_alloc_options *how)
{
	uint64_t mine = tenant_pinned_bytes(t);

	how->deadline = &past;
	if (mine < t->shared->limit / SMALL_SHARE)
		return true;
	if (!t->room_good_for)
		look_at_room(t);
	t->room_good_for--;
	if (mine >= t->room / 2)
		how->effort = SEG_EFFORT_EASY;
	return mine < t->room;
}

/* Nobody is waited for while pages of its own rest; NULL: none does now. */
static struct page *new_page_before_waiting(struct tenant *t)
{
	struct page *page = NULL;

	if (stub_oldest(&t->resting))
		page = new_page(t, &at_once);
	if (!page)
		tenant_rest_less(t, 0);
	return page;
}

static struct page *find_page(struct tenant *t, int create,
			      struct seg_alloc_options *how)
{
	uint32_t pages = tenant_pages(t);
	struct page *page = NULL;

	if (create == 1 && (tenant_held(t) >= (uint64_t)t->most * 9 / 10 ||
			    !may_grow(t, how)))
		return NULL;
	if (t->purgeable && pages + 1 >= t->most && pages > tenant_held(t))
		page = recycle(t);
	if (!page && create == 2)
		page = new_page_before_waiting(t);
	if (!page)
		page = new_page(t, how);
	return page;
}

/* As with pages: what rests goes before anybody is waited for. */
static struct stub *find_stub(struct tenant *t, int create,
			      const struct seg_alloc_options *how)
{
	struct stub *s = NULL;

	if (create == 2 && stub_oldest(&t->resting)) {
		s = stub_take(t, &at_once);
		if (!s)
			tenant_rest_less(t, 0);
	}
	return s ? s : stub_take(t, how);
}

static void count_miss(struct tenant *t)
{
	if (++t->misses < UPKEEP_EVERY)
		return;
	t->misses = 0;
	shared_upkeep();
}

static struct page *make(struct tenant *t, uint32_t number, int create)
{
	struct seg_alloc_options how = { .size = sizeof(how) };
	struct page *page = find_page(t, create, &how);
	struct stub *s = page ? find_stub(t, create, &how) : NULL;

	count_miss(t);
	if (!s) {
		if (page)
			tenant_free_page(page);
		if (create == 2)
			/* relaxed: a counter */
			atomic_fetch_add_explicit(&t->shared->refusals, 1,
						  memory_order_relaxed);
		return NULL;
	}
	*s = (struct stub){ .page = page, .state = STUB_PRIVATE };
	stub_link(t, s, number);
	page->stub = s;
	*(void **)page->sqlite.pExtra = NULL;
	tenant_add(&t->near, 1);
	if (number > t->highest)
		t->highest = number;
	return page;
}

sqlite3_pcache_page *tenant_fetch_slowly(struct tenant *t, struct stub *s,
					 uint32_t number, int create)
{
	struct page *page;

	if (shared_is_foreign(t->shared))
		return NULL;
	if (s && !seg_pin_again(&s->pin, &s->pin)) {
		stub_remove(&t->left, s);
		s->state = STUB_HELD;
		tenant_add(&t->near, 1);
		return &s->page->sqlite;
	}
	if (s) {
		stub_unlink(t, s);
		stub_give(t, s);
	}
	page = create ? make(t, number, create) : NULL;
	return page ? &page->sqlite : NULL;
}

/* ---------------------------------------------------------- the other ways */

void tenant_unpin_slowly(struct tenant *t, struct stub *s, bool discard)
{
	if (!shared_is_foreign(t->shared) && (discard || t->purgeable))
		drop(t, s);
}

void tenant_forked(struct tenant *t)
{
	static struct stub *nothing;

	t->bucket = &nothing;
	t->mask = 0;
	t->full = 0;
}

void tenant_rename(struct tenant *t, struct page *page, uint32_t from,
		   uint32_t to)
{
	struct stub *s = page->stub, *old = tenant_find(t, to);

	(void)from;
	if (old)
		drop(t, old);
	if (s->state == STUB_HELD)
		make_private(t, s);
	stub_unlink(t, s);
	stub_link(t, s, to);
	if (to > t->highest)
		t->highest = to;
}

static void drop_scanning(struct tenant *t, uint32_t from)
{
	for (uint32_t i = 0; i < t->chunks * STUB_CHUNK; i++) {
		struct stub *s = stub_at(t, i);

		if (s->state != STUB_FREE && s->number >= from)
			drop(t, s);
	}
}

void tenant_truncate(struct tenant *t, uint32_t from)
{
	struct stub *s;

	if (from > t->highest)
		return;
	if (t->highest - from >= t->stubs)
		drop_scanning(t, from);
	else
		for (uint32_t i = from; i <= t->highest; i++)
			if ((s = tenant_find(t, i)))
				drop(t, s);
	t->highest = from ? from - 1 : 0;
	shared_upkeep();
}

void tenant_resize(struct tenant *t, uint32_t most)
{
	struct page *page;

	t->most = most;
	t->full = t->purgeable ? most + (most < UINT32_MAX) : 0;
	while (t->purgeable && tenant_pages(t) > most &&
	       (page = recycle(t)))
		tenant_free_page(page);
}

void tenant_shrink(struct tenant *t)
{
	for (uint32_t i = 0; i < t->chunks * STUB_CHUNK; i++) {
		struct stub *s = stub_at(t, i);

		if (s->state == STUB_LEFT || s->resting)
			drop(t, s);
	}
	shared_upkeep();
}
