/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What listeners do to the cache they are called from, and where none may be
 * called: giving pins back in long chains, using other caches, allocations at
 * the limit that must not empty a cache, the keeper's, and a child's.
 */
#include "caches.h"

#ifdef SEG_TSAN
enum { LINKS = 20000 };
#else
enum { LINKS = 100000 };	/* no stack holds so many listeners */
#endif

enum {
	RUNS = 10,
	SLICE = 64 * 1024,
	SLICES = 64,
};

/* ---- chains: each value holds a pin on the next ---- */

/* A value; the listener gives its pin back. */
struct link {
	struct seg_pin next;
	unsigned released;
	struct nest *nest;		/* of the cache that it is in */
};

/* How deep the listener of one cache is in itself. */
struct nest {
	struct seg_cache *cache;
	unsigned depth, deepest;
};

static struct link *new_links(void)
{
	struct link *links = calloc(LINKS, sizeof(*links));

	require(links);
	return links;
}

static void let_go_of_next(void *ctx, uint64_t key, void *value,
			   uint64_t weight, enum seg_cause cause)
{
	struct link *link = value;
	struct nest *nest = link->nest;

	(void)ctx;
	(void)key;
	(void)weight;
	(void)cause;
	nest->depth++;
	if (nest->depth > nest->deepest)
		nest->deepest = nest->depth;
	link->released++;
	require(seg_unpin(&link->next) == 0);
	nest->depth--;
}

static struct nest chain_cache(uint64_t max_weight)
{
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = max_weight,
		.listener = let_go_of_next,
	};
	struct nest nest = { .cache = NULL };

	assert_int_equal(seg_cache_create(&o, &nest.cache), 0);
	return nest;
}

/* From the last to the head, which is pinned by nobody; by turns in each. */
static void link_up(struct link *links, uint64_t from, uint64_t to,
		    struct nest *const nests[2])
{
	struct seg_pin pin = { .cache = NULL };

	for (uint64_t i = to; i-- > from;) {
		links[i].nest = nests[i % 2];
		links[i].next = pin;
		pin = put_pinned(links[i].nest->cache, i, &links[i], 1);
	}
	unpin(&pin);
}

static uint64_t count_released(const struct link *links)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < LINKS; i++) {
		assert_true(links[i].released <= 1);
		count += links[i].released;
	}
	return count;
}

/* Every value was released once, and nothing weighs any more. */
static void chain_end(struct nest *nest)
{
	struct seg_cache_stats s = cache_stats(nest->cache);

	assert_int_equal(s.weight, 0);
	assert_int_equal(s.pinned_weight, 0);
	assert_int_equal(s.entries, 0);
	assert_int_equal(s.released_total, s.inserts_total);
	assert_int_equal(nest->deepest, 1);
	assert_true(seg_cache_is_valid(nest->cache));
	assert_int_equal(seg_cache_destroy(nest->cache), 0);
}

/* One head after the other is too heavy, and with each the next in its chain:
 * this went one listener deeper each time, until there was no stack. */
static void evict_chains(unsigned heads)
{
	struct nest nest = chain_cache(heads);
	struct nest *const both[2] = { &nest, &nest };
	struct link *links = new_links();
	struct link more[2] = { { .nest = &nest }, { .nest = &nest } };

	for (uint64_t i = 0; i < heads; i++)
		link_up(links, i * (LINKS / heads), (i + 1) * (LINKS / heads),
			both);
	assert_int_equal(cache_stats(nest.cache).weight, heads);
	put(nest.cache, LINKS, &more[0], heads);
	assert_true(cache_stats(nest.cache).weight <= heads);
	assert_true(count_released(links) > heads);
	put(nest.cache, LINKS + 1, &more[1], heads);
	assert_true(cache_stats(nest.cache).weight <= heads);
	assert_int_equal(nest.deepest, 1);
	assert_int_equal(seg_cache_clear(nest.cache), 0);
	assert_int_equal(count_released(links), LINKS);
	assert_int_equal(more[0].released + more[1].released, 2);
	chain_end(&nest);
	free(links);
}

static void test_chains_that_are_evicted(void **state)
{
	(void)state;
	evict_chains(1000);
	evict_chains(100);
	evict_chains(4);
}

/* All but the head are removed while they are pinned. */
static void test_a_chain_that_is_cleared(void **state)
{
	struct nest nest = chain_cache(LINKS);
	struct nest *const both[2] = { &nest, &nest };
	struct link *links = new_links();

	(void)state;
	link_up(links, 0, LINKS, both);
	assert_int_equal(cache_stats(nest.cache).pinned_weight, LINKS - 1);
	assert_int_equal(seg_cache_clear(nest.cache), 0);
	assert_int_equal(count_released(links), LINKS);
	chain_end(&nest);
	free(links);
}

/* ---- two caches, whose entries pin each other's ---- */

/* Each listener ends in an unpin of the other cache's. */
static void test_two_caches_that_pin_each_other(void **state)
{
	struct nest a = chain_cache(LINKS), b = chain_cache(LINKS);
	struct nest *const both[2] = { &a, &b };
	struct link *links = new_links();

	(void)state;
	link_up(links, 0, LINKS, both);
	assert_int_equal(seg_cache_clear(b.cache), 0);
	assert_int_equal(count_released(links), 0);
	assert_int_equal(seg_cache_clear(a.cache), 0);
	assert_int_equal(count_released(links), LINKS);
	chain_end(&a);
	chain_end(&b);
	free(links);
}

/* Both full of heads: what one lets go of makes the other too heavy. */
static void test_two_caches_that_evict_each_other(void **state)
{
	enum { HEADS = 100, LENGTH = LINKS / HEADS };
	struct nest a = chain_cache(HEADS / 2);
	struct nest b = chain_cache(HEADS / 2);
	struct nest *const both[2] = { &a, &b };
	struct link *links = new_links();
	struct link more = { .nest = &a };

	(void)state;
	for (uint64_t i = 0; i < HEADS; i++)
		link_up(links, i * LENGTH + i % 2,
			(i + 1) * LENGTH + (i + 1) % 2, both);
	put(a.cache, LINKS, &more, HEADS / 2);
	assert_true(count_released(links) > HEADS);
	assert_true(cache_stats(a.cache).weight <= HEADS / 2);
	assert_true(cache_stats(b.cache).weight <= HEADS / 2);
	assert_int_equal(seg_cache_clear(a.cache), 0);
	assert_int_equal(seg_cache_clear(b.cache), 0);
	assert_int_equal(count_released(links), LINKS);
	chain_end(&a);
	chain_end(&b);
	free(links);
}

/* ---- a listener that uses another cache ---- */

struct second {
	struct box *box;
	uint64_t taken;
};

/* That of the first cache; what it does to the second happens at once. */
static void use_the_second(struct box *box, const struct heard_call *call)
{
	struct second *second = box->also_ctx;
	struct seg_cache *c = second->box->cache;
	uint64_t heard = box_heard(second->box);
	struct seg_pin pin;
	void *value;

	pin = put_pinned(c, call->key, call->value, call->weight);
	if (call->key % 3 == 0)
		require(seg_cache_remove(c, call->key, NULL) == 0);
	unpin(&pin);
	require(cache_stats(c).weight <= cache_stats(c).max_weight);
	if (call->key % 3 == 0)
		require(box_times(second->box, call->value) == 1 &&
			box_heard(second->box) == heard + 1);
	if (call->key % 3 == 1) {
		require(seg_cache_take(c, call->key, &value) == 0);
		require(value == call->value);
		second->taken++;
	}
}

static void test_a_listener_that_uses_another_cache(void **state)
{
	enum { VALUES = 900 };
	struct box *box = box_begin(100);
	struct second second = { box_begin(50), 0 };

	(void)state;
	box->also = use_the_second;
	box->also_ctx = &second;
	for (uint64_t i = 0; i < VALUES; i++)
		put(box->cache, i, number(i), 1 + i % 3);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	assert_int_equal(box_heard(box), VALUES);
	assert_int_equal(second.taken, VALUES / 3);
	assert_int_equal(seg_cache_clear(second.box->cache), 0);
	assert_int_equal(box_heard(second.box), VALUES - VALUES / 3);
	for (uint64_t i = 0; i < VALUES; i++)
		assert_int_equal(box_times(second.box, number(i)), i % 3 != 1);
	box_end(box);
	box_end(second.box);
}

/* ---- at the limit ---- */

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box;
};

static struct scene scene_with(struct seg_pool_options pool,
			       uint64_t limit_bytes, unsigned short_reads)
{
	struct scene s = { .budget = new_budget(limit_bytes) };

	pool.budget = s.budget;
	s.pool = make_pool_with(pool);
	s.box = box_begin_with((struct seg_cache_options){
		.max_weight = 1 << 30, .pages = s.pool, .budget = s.budget,
		.short_reads = short_reads });
	return s;
}

static struct scene scene_begin(unsigned short_reads)
{
	return scene_with((struct seg_pool_options){
		.wait_ms = SEG_NO_WAIT, .region_bytes = SLICE,
		.decay_ms = 600000 }, SLICES * SLICE, short_reads);
}

static void fill(struct scene *s, size_t bytes, uint64_t pages)
{
	for (uint64_t key = 0; key < pages; key++) {
		struct seg_page *page;

		require(seg_page_create(s->pool, &bytes, 1, &page) == 0);
		put(s->box->cache, key, page, 0);
	}
}

static void scene_end(struct scene *s)
{
	box_end(s->box);
	end_both(s->pool, s->budget);
}

struct want {
	size_t bytes, page_bytes;
	int wait_ms;
	unsigned short_reads;
	bool succeeds;
};

/* What the cache weighs when one allocation has been made at the limit. */
static uint64_t weight_after(const struct want *w)
{
	struct scene s = scene_with((struct seg_pool_options){
		.wait_ms = w->wait_ms, .region_bytes = 256 * KIB,
		.decay_ms = 600000 }, 8 * MIB, w->short_reads);
	uint64_t weight;
	void *segment;

	fill(&s, w->page_bytes, 8 * MIB / w->page_bytes);
	assert_int_equal(cache_stats(s.box->cache).weight, 8 * MIB);
	segment = seg_alloc(s.pool, w->bytes);
	weight = cache_stats(s.box->cache).weight;
	if (w->succeeds)
		assert_non_null(segment);
	if (segment)
		assert_int_equal(seg_release(s.pool, segment), 0);
	wait_until(cache_stats(s.box->cache).deferred_weight == 0);
	scene_end(&s);
	return weight;
}

/*
 * Who waits asked for twice as much, again and again, before what had been
 * given could arrive.  It still may if the keeper has to wait for the
 * processor: so for a call that waits one run of some has to do.
 */
static void test_one_allocation_does_not_empty_a_cache(void **state)
{
	const struct want wants[] = {
		{ 256 * KIB, 4 * KIB, SEG_NO_WAIT, 0, false },
		{ 256 * KIB, 4 * KIB, 60000, 0, true },
		{ 256 * KIB, 4 * KIB, 60000, 1, true },
		{ 256 * KIB, 4 * KIB, SEG_NO_WAIT, 1, false },
		{ 256 * KIB, 256 * KIB, SEG_NO_WAIT, 0, true },
		{ 256 * KIB, 256 * KIB, 60000, 0, true },
		{ 256 * KIB, 256 * KIB, 60000, 1, true },
		{ 256 * KIB, 256 * KIB, SEG_NO_WAIT, 1, false },
		{ 4 * KIB, 256 * KIB, SEG_NO_WAIT, 0, false },
		{ 4 * KIB, 256 * KIB, 60000, 0, true },
		{ 4 * KIB, 256 * KIB, 60000, 1, true },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(wants) / sizeof(*wants); i++) {
		int runs = wants[i].wait_ms == SEG_NO_WAIT ? 1 : RUNS;
		uint64_t weight = 0;

		while (runs-- > 0 && weight < 4 * MIB)
			weight = weight_after(&wants[i]);
		if (weight < 4 * MIB)
			print_error("case %u: %llu KB left\n", i,
				    (unsigned long long)weight / 1024);
		assert_true(weight >= 4 * MIB);
	}
}

/* Two asks in vain, and for 10 ms it was not asked at all. */
static void test_what_was_all_pinned_gives_at_once(void **state)
{
	struct scene s = scene_begin(0);
	struct seg_pin pin[SLICES];
	void *segment;

	(void)state;
	for (int run = 0; run < RUNS; run++) {
		fill(&s, SLICE, SLICES);
		for (uint64_t i = 0; i < SLICES; i++)
			pin[i] = get(s.box->cache, i);
		assert_null(seg_alloc(s.pool, SLICE));
		assert_null(seg_alloc(s.pool, SLICE));
		for (uint64_t i = 0; i < SLICES; i++)
			unpin(&pin[i]);
		segment = seg_alloc(s.pool, SLICE);
		assert_non_null(segment);
		assert_int_equal(seg_release(s.pool, segment), 0);
		assert_int_equal(seg_cache_clear(s.box->cache), 0);
	}
	scene_end(&s);
}

/* ---- the keeper ---- */

struct keepers {
	struct scene scene;
	pthread_t main;
	sem_t done;
	unsigned logged, refused;	/* in the keeper */
	unsigned heard;			/* in the keeper, by the listener */
};

/* A seg_log_fn, which may allocate. */
static void log_allocates(void *ctx, enum seg_log_level level, const char *line)
{
	struct keepers *k = ctx;
	void *segment;

	(void)level;
	(void)line;
	if (pthread_equal(pthread_self(), k->main))
		return;
	segment = seg_alloc(k->scene.pool, SLICE);
	k->refused += !segment;
	if (segment)
		require(seg_release(k->scene.pool, segment) == 0);
	k->logged++;
	sem_post(&k->done);
}

static void heard_where(struct box *box, const struct heard_call *call)
{
	struct keepers *k = box->also_ctx;

	k->heard += !pthread_equal(call->thread, k->main);
}

/* Its pool's regions are given back by the keeper, soon. */
static void let_the_keeper_log(struct keepers *k)
{
	struct seg_budget *budget = new_budget(SLICES * SLICE);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = budget, .wait_ms = SEG_NO_WAIT, .decay_ms = 1,
		.region_bytes = SLICE, .log = log_allocates, .log_ctx = k });
	void *segment = seg_alloc(pool, SLICE);

	assert_non_null(segment);
	assert_int_equal(seg_release(pool, segment), 0);
	wait_for(&k->done);
	wait_until(charged(budget) == 0);
	end_both(pool, budget);
}

/* The listener ran there with the keeper's lock held, and knew nothing of the
 * rules for that. */
static void test_the_keeper_asks_no_cache(void **state)
{
	struct keepers k = { .scene = scene_begin(0), .main = pthread_self() };
	struct box *box = k.scene.box;
	void *segment;

	(void)state;
	sem_init(&k.done, 0, 0);
	box->also = heard_where;
	box->also_ctx = &k;
	fill(&k.scene, SLICE, SLICES);
	let_the_keeper_log(&k);
	assert_true(k.logged > 0);
	assert_int_equal(k.refused, k.logged);
	assert_int_equal(k.heard, 0);
	assert_int_equal(box_heard(box), 0);
	segment = seg_alloc(k.scene.pool, SLICE);
	assert_non_null(segment);
	assert_true(box_heard(box) > 0);
	assert_int_equal(seg_release(k.scene.pool, segment), 0);
	scene_end(&k.scene);
	sem_destroy(&k.done);
}

/* ---- pins given back ---- */

static uint64_t tagged(struct seg_cache *c)
{
	struct seg_pin_report report = { .size = sizeof(report) };

	assert_int_equal(seg_cache_pins(c, &report), 0);
	return report.tagged;
}

/* It made a record that named a holder of nothing. */
static void test_a_copy_of_a_pin_given_back_gets_no_tag(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 10);
	struct seg_pin copy = pin;

	(void)state;
	unpin(&pin);
	assert_int_equal(seg_pin_tag(&copy, 7), -EINVAL);
	assert_int_equal(tagged(box->cache), 0);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	pin = copy = get(box->cache, 1);
	assert_int_equal(seg_pin_tag(&pin, 7), 0);
	assert_int_equal(tagged(box->cache), 1);
	unpin(&pin);
	assert_int_equal(seg_pin_tag(&copy, 7), -EINVAL);
	assert_int_equal(tagged(box->cache), 0);
	assert_int_equal(cache_stats(box->cache).misuses_total, 1);
	box_end(box);
}

/* The entry is another one's by then, and pinned. */
static void test_a_copy_whose_entry_is_reused_gets_no_tag(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 100);
	struct seg_pin copy = pin;

	(void)state;
	unpin(&pin);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	pin = put_pinned(box->cache, 2, number(2), 100);
	assert_ptr_equal(pin.entry, copy.entry);
	assert_int_equal(seg_pin_tag(&copy, 7), -EINVAL);
	assert_int_equal(tagged(box->cache), 0);
	assert_int_equal(seg_pin_tag(&pin, 7), 0);
	assert_int_equal(tagged(box->cache), 1);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(tagged(box->cache), 1);
	unpin(&pin);
	box_end(box);
}

/* ---- after a fork ---- */

#ifndef SEG_TSAN
/* The parent's cache is not asked; one of the child's own is. */
static int child_at_the_limit(void *ctx)
{
	struct scene *s = ctx;
	struct seg_cache *own;
	struct seg_page *page;
	struct seg_cache_options o = {
		.size = sizeof(o), .max_weight = 1 << 30, .pages = s->pool,
		.budget = s->budget };
	const size_t bytes = SLICE;
	void *segment;

	require(!seg_alloc(s->pool, SLICE));
	require(!seg_alloc(s->pool, SLICE));
	require(box_heard(s->box) == 0);
	require(seg_budget_set_limit(s->budget, (SLICES + 1) * SLICE) == 0);
	require(seg_page_create(s->pool, &bytes, 1, &page) == 0);
	require(seg_cache_create(&o, &own) == 0);
	require(seg_cache_put(own, 1, page, 0, NULL) == 0);
	segment = seg_alloc(s->pool, SLICE);
	require(segment && box_heard(s->box) == 0);
	require(cache_stats(own).reclaims_total == 1);
	require(seg_release(s->pool, segment) == 0);
	require(seg_cache_destroy(own) == 0);
	return 0;
}

/* Its listener could wait for a lock that nobody holds there. */
static void test_a_child_asks_no_cache_of_its_parent(void **state)
{
	struct scene s;
	void *segment;

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	s = scene_begin(0);
	fill(&s, SLICE, SLICES);
	assert_int_equal(run_in_child(child_at_the_limit, &s), 0);
	assert_int_equal(box_heard(s.box), 0);
	segment = seg_alloc(s.pool, SLICE);
	assert_non_null(segment);
	assert_true(box_heard(s.box) > 0);
	assert_int_equal(seg_release(s.pool, segment), 0);
	scene_end(&s);
}

enum { TOO_LATE = 1, FORKS = 300, IN_TIME = 2 };

struct waiting {
	struct box *box;
	struct seg_pool *pool;
	uint64_t out;		/* values that left */
	sem_t heard;
};

static void tell(struct box *box, const struct heard_call *call)
{
	struct waiting *w = box->also_ctx;

	(void)call;
	sem_post(&w->heard);
}

/* Neither by the child's keeper nor in a flush. */
static int child_with_waiting_values(void *ctx)
{
	struct waiting *w = ctx;

	if (w->box->heard == w->out)
		return TOO_LATE;
	while (sem_trywait(&w->heard) == 0)
		;
	require(!happens_soon(&w->heard));
	require(seg_pool_trim(w->pool, NULL) == 0);
	require(!happens_soon(&w->heard));
	return 0;
}

/* How many of the runs had values that waited when it forked. */
static unsigned fork_with_waiting(struct waiting *w, uint64_t values)
{
	unsigned in_time = 0;

	for (int run = 0; run < FORKS && in_time < IN_TIME; run++) {
		int status;

		for (uint64_t i = 0; i < values; i++, w->out++)
			put(w->box->cache, w->out + 1, number(w->out + 1), 10);
		status = run_in_child(child_with_waiting_values, w);
		assert_true(WIFEXITED(status));
		in_time += WEXITSTATUS(status) == 0;
		wait_until(box_heard(w->box) == w->out);
	}
	return in_time;
}

/* The child gave them to the listener, too: few, which its keeper would have
 * to look for, or, of one of the sizes, a batch that was on its way. */
static void test_what_waited_is_released_in_the_parent_alone(void **state)
{
	struct seg_budget *budget;
	struct waiting w = { .out = 0 };

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	budget = new_budget(MIB);
	w.pool = make_pool(budget);
	w.box = box_begin_with((struct seg_cache_options){
		.max_weight = 10, .short_reads = 1 });
	sem_init(&w.heard, 0, 0);
	w.box->also = tell;
	w.box->also_ctx = &w;
	put(w.box->cache, 0, number(0), 10);
	for (uint64_t values = 8; values <= 512; values *= 2)
		assert_true(fork_with_waiting(&w, values) > 0);
	box_end(w.box);
	end_both(w.pool, budget);
	sem_destroy(&w.heard);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains_that_are_evicted),
		cmocka_unit_test(test_a_chain_that_is_cleared),
		cmocka_unit_test(test_two_caches_that_pin_each_other),
		cmocka_unit_test(test_two_caches_that_evict_each_other),
		cmocka_unit_test(test_a_listener_that_uses_another_cache),
		cmocka_unit_test(test_one_allocation_does_not_empty_a_cache),
		cmocka_unit_test(test_what_was_all_pinned_gives_at_once),
		cmocka_unit_test(test_the_keeper_asks_no_cache),
		cmocka_unit_test(test_a_copy_of_a_pin_given_back_gets_no_tag),
		cmocka_unit_test(test_a_copy_whose_entry_is_reused_gets_no_tag),
#ifndef SEG_TSAN	/* it does not follow a child that has threads */
		cmocka_unit_test(test_a_child_asks_no_cache_of_its_parent),
		cmocka_unit_test(
			test_what_waited_is_released_in_the_parent_alone),
#endif
	};

	return run_group(tests);
}
