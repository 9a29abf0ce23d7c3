/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P2 for caches: random operations beside a model that knows each value, what
 * it was put with and its pins.  After each of them both weights are what the
 * model says: nothing drifts, whichever way values leave.  (Weights were asked
 * for a second time when an entry left, and two paths took them off twice.)
 */
#include "caches.h"
#include "keeper.h"

enum { KEYS = 12, PINS = 16, STEPS = 12000, MAX_WEIGHT = 100 };

enum status { NEVER_IN, IN, HIDDEN, OUT };

struct known {
	enum status status;
	uint64_t key, weight, pins;
};

struct model {
	struct box *box;
	uint64_t seed;
	uint64_t values;		/* numbers that were used */
	struct known value[STEPS + 1];
	uint64_t in[KEYS];		/* value + 1; 0: none */
	uint64_t replaced;		/* the same; it may be evicted first */
	struct { struct seg_pin pin; uint64_t value; } held[PINS];
	unsigned pins;
	uint64_t done[16];
};

static uint64_t number_of(const void *value)
{
	return (uintptr_t)value / 16 - 1;
}

/* Whatever leaves is not pinned; nothing leaves twice. */
static void left(struct box *box, const struct heard_call *call)
{
	struct model *m = box->also_ctx;
	struct known *v = &m->value[number_of(call->value)];

	require(v->status == IN || v->status == HIDDEN);
	require(v->pins == 0);
	require(v->key == call->key && v->weight == call->weight);
	if (call->cause == SEG_CAUSE_EVICTED || call->cause == SEG_CAUSE_SHRUNK)
		require(v->status == IN ||
			m->replaced == number_of(call->value) + 1);
	if (m->in[v->key] == number_of(call->value) + 1)
		m->in[v->key] = 0;
	v->status = OUT;
}

static void hide(struct model *m, uint64_t key)
{
	if (m->in[key])
		m->value[m->in[key] - 1].status = HIDDEN;
	m->in[key] = 0;
}

static void hold(struct model *m, struct seg_pin pin, uint64_t value)
{
	require(number_of(seg_pin_value(&pin)) == value);
	m->held[m->pins].pin = pin;
	m->held[m->pins++].value = value;
}

static void unpin_one(struct model *m)
{
	unsigned i;
	struct seg_pin pin;

	if (!m->pins)
		return;
	i = (unsigned)random_below(&m->seed, m->pins);
	pin = m->held[i].pin;
	require(number_of(seg_pin_value(&pin)) == m->held[i].value);
	/* Before the call: it may leave in there. */
	m->value[m->held[i].value].pins--;
	m->held[i] = m->held[--m->pins];
	unpin(&pin);
}

static void put_one(struct model *m, uint64_t key, bool replaces)
{
	uint64_t n = m->values++;
	uint64_t weight = 1 + random_below(&m->seed, 60);
	bool pinned = m->pins < PINS && random_below(&m->seed, 4) == 0;
	struct seg_pin pin;
	int ret;

	m->value[n] = (struct known){ NEVER_IN, key, weight, pinned };
	m->replaced = replaces ? m->in[key] : 0;
	if (replaces)
		hide(m, key);
	ret = (replaces ? seg_cache_replace : seg_cache_put)(
		m->box->cache, key, number(n), weight, pinned ? &pin : NULL);
	require(ret == 0 || (!replaces && ret == -EEXIST && m->in[key]));
	if (ret)
		return;
	require(!m->in[key]);
	m->value[n].status = IN;
	m->in[key] = n + 1;
	if (pinned)
		hold(m, pin, n);
}

static void get_one(struct model *m, uint64_t key)
{
	struct seg_pin pin;
	int ret;

	if (m->pins == PINS)
		return;
	ret = seg_cache_get(m->box->cache, key, &pin);
	require(ret == (m->in[key] ? 0 : -ENOENT));
	if (ret)
		return;
	m->value[m->in[key] - 1].pins++;
	hold(m, pin, m->in[key] - 1);
}

static void take_one(struct model *m, uint64_t key)
{
	struct known *v = m->in[key] ? &m->value[m->in[key] - 1] : NULL;
	void *value;
	int ret = seg_cache_take(m->box->cache, key, &value);

	require(ret == (!v ? -ENOENT : v->pins ? -EBUSY : 0));
	if (ret)
		return;
	require(number_of(value) == m->in[key] - 1);
	v->status = OUT;
	m->in[key] = 0;
}

static void remove_one(struct model *m, uint64_t key)
{
	bool there = m->in[key];

	hide(m, key);
	require(seg_cache_remove(m->box->cache, key, NULL) ==
		(there ? 0 : -ENOENT));
}

static void clear_all(struct model *m)
{
	for (uint64_t key = 0; key < KEYS; key++)
		hide(m, key);
	require(seg_cache_clear(m->box->cache) == 0);
}

static void step(struct model *m)
{
	uint64_t key = random_below(&m->seed, KEYS);
	uint64_t what = random_below(&m->seed, 16);
	struct seg_cache *c = m->box->cache;

	m->done[what]++;
	if (what < 4)
		put_one(m, key, false);
	else if (what < 6)
		put_one(m, key, true);
	else if (what < 9)
		get_one(m, key);
	else if (what < 12)
		unpin_one(m);
	else if (what == 12)
		take_one(m, key);
	else if (what == 13)
		remove_one(m, key);
	else if (what == 14)
		require(seg_cache_shrink(c, random_below(&m->seed, 100),
					 NULL) == 0);
	else if (random_below(&m->seed, 8) == 0)
		clear_all(m);
	else
		require(seg_cache_set_max_weight(
				c, 60 + random_below(&m->seed, 60)) == 0);
}

static void assert_agrees(struct model *m)
{
	struct seg_cache_stats s = cache_stats(m->box->cache);
	uint64_t weight = 0, pinned = 0, entries = 0;

	for (uint64_t i = 0; i < m->values; i++) {
		struct known *v = &m->value[i];

		if (v->status != IN && v->status != HIDDEN)
			continue;
		assert_true(v->status == IN || v->pins);
		entries += v->status == IN;
		*(v->pins ? &pinned : &weight) += v->weight;
	}
	assert_int_equal(s.weight, weight);
	assert_int_equal(s.pinned_weight, pinned);
	assert_int_equal(s.entries, entries);
	assert_true(weight <= s.max_weight);
}

static void settle(struct model *m)
{
	box_check(m->box);
	keeper_let_go();
	keeper_flush();
	keeper_hold();
}

static void run_model(uint64_t seed)
{
	static struct model m;

	m = (struct model){ .seed = random_seed(seed),
			    .box = box_begin(MAX_WEIGHT) };
	m.box->also = left;
	m.box->also_ctx = &m;
	/* Held, so that nobody evicts but the operations themselves. */
	keeper_hold();
	for (unsigned i = 0; i < STEPS; i++) {
		step(&m);
		if (i % 8 == 0)
			assert_agrees(&m);
		if (i % 64 == 0)
			settle(&m);
	}
	keeper_let_go();
	for (int what = 0; what < 16; what++)
		assert_true(m.done[what] > 0);
	while (m.pins)
		unpin_one(&m);
	assert_agrees(&m);
	assert_int_equal(seg_cache_clear(m.box->cache), 0);
	assert_int_equal(cache_stats(m.box->cache).weight, 0);
	box_end(m.box);
}

static void test_random_operations_beside_a_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		run_model(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_operations_beside_a_model),
	};

	return run_group(tests);
}
