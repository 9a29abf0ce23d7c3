/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking, giving and decommitting at random, up to the limit and down again:
 * charged = mapped - cold after each step (P1, P2), every byte of the limit is
 * somebody's when it is met (P6), and what one owns is nobody else's.
 */
#include "decommit.h"

enum { MOST = 8 * SLICES, STEPS = 6000, THREADS = 4, ROUNDS = 3000 };

/* ------------------------------------------ the equations, step by step */

static struct {
	char *segments[MOST];
	uint64_t out, seed;
} model;

static void step_take(void)
{
	struct taken t = class_pool_take(&f->pool);
	uint32_t room = (uint32_t)((LIMIT - charged()) / SLICE);

	if (!t.segment)
		t = class_pool_take_cold(&f->pool);
	if (!t.segment && room)
		assert_int_equal(class_pool_open(&f->pool, REGION,
						 room < SLICES ? room : SLICES,
						 &t), OPEN_DONE);
	if (!t.segment) {
		assert_int_equal(model.out + class_pool_sum(&f->pool).unused,
				 model.out);
		assert_int_equal(charged(), LIMIT);
		return;
	}
	if (t.fresh)
		assert_true(is_zero(t.segment));
	memset(t.segment, (int)random_below(&model.seed, 255) + 1, SLICE);
	model.segments[model.out++] = t.segment;
}

static void step_give(void)
{
	uint64_t i;

	if (!model.out)
		return;
	i = random_below(&model.seed, model.out);
	give(model.segments[i]);
	model.segments[i] = model.segments[--model.out];
}

static void step_reclaim(void)
{
	switch (random_below(&model.seed, 4)) {
	case 0:
		class_pool_shed(&f->pool, REGION);
		break;
	case 1:
		keeper_flush();
		break;
	default:
		decommit(random_below(&model.seed, 2 * REGION));
	}
}

/* Up to the limit, where each byte is somebody's, and down again. */
static void test_equations_hold_after_each_step(void **state)
{
	uint64_t most = 0;

	(void)state;
	memset(&model, 0, sizeof(model));
	model.seed = random_seed(11);
	for (int i = 0; i < STEPS; i++) {
		bool up = i / 500 % 2 == 0;

		if (random_below(&model.seed, 12) == 0)
			step_reclaim();
		else if (random_below(&model.seed, 10) < (up ? 9 : 2))
			step_take();
		else
			step_give();
		assert_int_equal(charged(), class_pool_charged(&f->pool));
		if (i % 50 == 0)
			assert_equations();
		most = model.out > most ? model.out : most;
	}
	assert_int_equal(most, LIMIT / SLICE);
	while (model.out)
		step_give();
}

/* ------------------------------------------------------- several threads */

static struct atomic_u32 working;

/* Fills what it holds, and finds it as it was; discards what others left. */
static void *use_and_decommit(void *arg)
{
	uint64_t *held[3], me = *(uint64_t *)arg;
	uint64_t rounds = testing_rounds(ROUNDS);
	bool wrong = false;

	for (uint64_t i = 0; i < rounds; i++) {
		unsigned n = 0;

		while (n < 1 + i % 3) {
			struct taken t = class_pool_take(&f->pool);

			if (!t.segment)
				t = class_pool_take_cold(&f->pool);
			if (!t.segment && class_pool_open(&f->pool, REGION,
							  1 + i % SLICES, &t))
				break;
			held[n] = t.segment;
			wrong |= t.fresh && (held[n][0] || held[n][511]);
			held[n][0] = held[n][511] = me << 32 | i;
			n++;
		}
		while (n--) {
			wrong |= held[n][0] != (me << 32 | i) ||
				 held[n][511] != held[n][0];
			wrong |= !try_give(held[n]);
		}
		if (i % 4 == me % 4)
			decommit(2 * SLICE);
		if (i % 16 == 15)
			class_pool_shed(&f->pool, REGION);
	}
	u32_sub_seq_cst(&working, 1);
	return wrong ? arg : NULL;
}

static void test_under_four_threads(void **state)
{
	uint64_t names[THREADS] = { 1, 2, 3, 4 };
	struct threads t;

	(void)state;
	u32_store_relaxed(&working, THREADS);
	threads_start(&t, THREADS, use_and_decommit, names, sizeof(*names));
	while (u32_load_acquire(&working)) {
		assert_true(charged() <= LIMIT);
		keeper_flush();
	}
	assert_int_equal(threads_join(&t), 0);
	assert_equations();
	assert_true(u64_load_relaxed(&f->pool.decommitted_bytes) > 0);
	assert_true(u64_load_relaxed(&f->pool.recommitted_bytes) > 0);
	assert_int_equal(counter_sum(&f->pool.allocations),
			 counter_sum(&f->pool.releases));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(test_equations_hold_after_each_step),
		pool_test(test_under_four_threads),
	};

	return run_group(tests);
}
