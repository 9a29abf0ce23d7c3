/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who pins (P12): lib/pin_tags.h, the report in its order, the sums of tags
 * (lib/pin_sums.h) beside the true ones, and what a cache that can't be
 * destroyed says, word for word.  (Nobody knew for months what was never
 * closed: the list of it held it itself.)
 */
#include "caches.h"

#include "pin_sums.h"

enum { THREADS = 4, TURNS = 5000, MANY = 2000 };

/* ---- the records ---- */

static struct pin_tags tags;

static int new_tags(void **state)
{
	(void)state;
	memset(&tags, 0, sizeof(tags));
	pin_tags_init(&tags);
	return 0;
}

static int end_tags(void **state)
{
	(void)state;
	return !pin_tags_clear(&tags);
}

static uint64_t add(uint64_t tag, uint64_t weight)
{
	const struct seg_pin_info info = { .tag = tag, .key = tag + 100,
					   .weight = weight };
	uint64_t token = pin_tags_add(&tags, &info);

	require(token != 0);
	return token;
}

static struct seg_pin_report report(void)
{
	struct seg_pin_report r = { .size = sizeof(r) };
	struct pin_sums s = { .longest = r.longest, .biggest = r.biggest };

	pin_sums_add(&s, &tags);
	pin_sums_heaviest(&s, r.tags);
	r.tagged = s.tagged;
	return r;
}

static void test_none(void **state)
{
	struct seg_pin_report r = report();

	(void)state;
	assert_int_equal(r.tagged, 0);
	assert_int_equal(r.longest[0].tag, 0);
	assert_int_equal(r.biggest[0].tag, 0);
	assert_int_equal(r.tags[0].tag, 0);
	assert_false(pin_tags_drop(&tags, 1));
	assert_int_equal(pin_tags_bytes(&tags), 0);
}

static void test_a_token_is_good_once(void **state)
{
	uint64_t a = add(1, 10), b;

	(void)state;
	assert_int_equal(report().tagged, 1);
	assert_true(pin_tags_drop(&tags, a));
	assert_false(pin_tags_drop(&tags, a));
	assert_int_equal(report().tagged, 0);
	/* The record is used again; the old token is not its. */
	b = add(2, 20);
	assert_int_not_equal(a, b);
	assert_false(pin_tags_drop(&tags, a));
	assert_int_equal(report().longest[0].tag, 2);
	assert_true(pin_tags_drop(&tags, b));
}

/* The first ones of the longest are the oldest, of the biggest the heaviest. */
static void test_the_order_of_a_report(void **state)
{
	const uint64_t weights[] = { 5, 70, 20, 90, 10, 60, 30, 80, 40, 50 };
	uint64_t token[10];
	struct seg_pin_report r;

	(void)state;
	for (uint64_t i = 0; i < 10; i++)
		token[i] = add(i + 1, weights[i]);
	r = report();
	assert_int_equal(r.tagged, 10);
	for (uint64_t i = 0; i < SEG_PINS_MOST; i++) {
		assert_int_equal(r.longest[i].tag, i + 1);
		assert_int_equal(r.longest[i].key, i + 101);
		assert_int_equal(r.biggest[i].weight, 90 - 10 * i);
		assert_true(i == 0 || r.longest[i].held_ns <=
				      r.longest[i - 1].held_ns);
	}
	assert_true(pin_tags_drop(&tags, token[0]));
	assert_true(pin_tags_drop(&tags, token[3]));
	r = report();
	assert_int_equal(r.tagged, 8);
	assert_int_equal(r.longest[0].tag, 2);
	assert_int_equal(r.longest[7].tag, 10);
	assert_int_equal(r.biggest[0].weight, 80);
	assert_int_equal(r.biggest[7].weight, 10);
	for (int i = 1; i < 10; i++)
		assert_int_equal(pin_tags_drop(&tags, token[i]), i != 3);
}

static void test_many_records(void **state)
{
	static uint64_t token[MANY];

	(void)state;
	for (uint64_t i = 0; i < MANY; i++)
		token[i] = add(i + 1, i + 1);
	assert_int_equal(report().tagged, MANY);
	assert_int_equal(report().biggest[0].weight, MANY);
	assert_true(pin_tags_bytes(&tags) >= MANY * 48);
	for (uint64_t i = 0; i < MANY; i++)
		assert_true(pin_tags_drop(&tags, token[i]));
	assert_int_equal(report().tagged, 0);
}

/* ---- the sums of tags ---- */

/* So many pins of a tag; their tokens. */
static void add_pins(uint64_t *token, unsigned pins, uint64_t tag,
		     uint64_t weight)
{
	for (unsigned i = 0; i < pins; i++)
		token[i] = add(tag, weight);
}

static void drop_pins(const uint64_t *token, unsigned pins)
{
	for (unsigned i = 0; i < pins; i++)
		assert_true(pin_tags_drop(&tags, token[i]));
}

static void assert_tag(struct seg_tag_sum sum, uint64_t tag, uint64_t pins,
		       uint64_t weight)
{
	assert_int_equal(sum.tag, tag);
	assert_int_equal(sum.pins, pins);
	assert_int_equal(sum.weight, weight);
}

/* The heaviest first, whether in few pins or in many. */
static void test_the_sums_of_tags(void **state)
{
	uint64_t token[9];
	struct seg_pin_report r;

	(void)state;
	add_pins(token, 5, 1, 10);
	add_pins(token + 5, 1, 2, 70);
	add_pins(token + 6, 3, UINT64_MAX, 20);
	r = report();
	assert_tag(r.tags[0], 2, 1, 70);
	assert_tag(r.tags[1], UINT64_MAX, 3, 60);
	assert_tag(r.tags[2], 1, 5, 50);
	assert_tag(r.tags[3], 0, 0, 0);
	assert_int_equal(r.longest[0].tag, 1);
	assert_int_equal(r.tags[2].longest_ns, r.longest[0].held_ns);
	drop_pins(token + 5, 1);
	r = report();
	assert_tag(r.tags[0], UINT64_MAX, 3, 60);
	assert_tag(r.tags[1], 1, 5, 50);
	drop_pins(token, 5);
	drop_pins(token + 6, 3);
}

static void test_more_tags_than_places(void **state)
{
	uint64_t token[SEG_PINS_MOST + 4];
	struct seg_pin_report r;

	(void)state;
	for (uint64_t i = 0; i < SEG_PINS_MOST + 4; i++)
		token[i] = add(i + 1, (i * 5) % 12 + 1);
	r = report();
	for (uint64_t i = 0; i < SEG_PINS_MOST; i++) {
		assert_int_equal(r.tags[i].weight, 12 - i);
		assert_int_equal(((r.tags[i].tag - 1) * 5) % 12 + 1, 12 - i);
	}
	drop_pins(token, SEG_PINS_MOST + 4);
}

/* Two caches: the same tag is one. */
static void test_the_sums_of_two(void **state)
{
	struct seg_pin_report r = { .size = sizeof(r) };
	struct pin_sums s = { .longest = r.longest, .biggest = r.biggest };
	uint64_t token = add(7, 40);

	(void)state;
	pin_sums_add(&s, &tags);
	drop_pins(&token, 1);
	token = add(7, 2);
	pin_sums_add(&s, &tags);
	pin_sums_heaviest(&s, r.tags);
	assert_int_equal(s.tagged, 2);
	assert_tag(r.tags[0], 7, 2, 42);
	assert_tag(r.tags[1], 0, 0, 0);
	assert_int_equal(r.biggest[1].weight, 2);
	drop_pins(&token, 1);
}

/* All that is promised of more tags than there is room for, against the true
 * sums: some heavy tags in many small pins among a crowd. */
enum { CROWD = 300, HEAVY = 5 };

static void check_sums(const struct pin_sums *s, const uint64_t *weight,
		       const uint64_t *pins, uint64_t all)
{
	uint64_t found = 0;

	assert_int_equal(s->tags, PIN_SUMS_TAGS);
	for (unsigned i = 0; i < s->tags; i++) {
		const struct pin_sum *p = &s->tag[i];
		uint64_t tag = p->sum.tag;

		assert_true(tag > 0 && tag <= CROWD);
		assert_true(p->sum.weight && p->sum.weight <= weight[tag]);
		assert_true(p->sum.pins && p->sum.pins <= pins[tag]);
		assert_true(weight[tag] <= p->sum.weight + p->lost);
		assert_true(p->lost <= all / PIN_SUMS_TAGS);
		found += weight[tag] > all / PIN_SUMS_TAGS;
	}
	for (uint64_t tag = 1; tag <= CROWD; tag++)
		found -= weight[tag] > all / PIN_SUMS_TAGS;
	assert_int_equal(found, 0);
}

static void test_a_crowd_of_tags(void **state)
{
	uint64_t seed = random_seed(11), all = 0;
	uint64_t weight[CROWD + 1] = { 0 }, pins[CROWD + 1] = { 0 };
	static uint64_t token[MANY];
	struct seg_pin_report r = { .size = sizeof(r) };
	struct pin_sums s = { .longest = r.longest, .biggest = r.biggest };

	(void)state;
	for (int i = 0; i < MANY; i++) {
		uint64_t heavy = random_below(&seed, 10) < 6;
		uint64_t tag = 1 + random_below(&seed, heavy ? HEAVY : CROWD);
		uint64_t w = 1 + random_below(&seed, 100);

		token[i] = add(tag, w);
		weight[tag] += w;
		pins[tag]++;
		all += w;
	}
	pin_sums_add(&s, &tags);
	assert_int_equal(s.tagged, MANY);
	check_sums(&s, weight, pins, all);
	pin_sums_heaviest(&s, r.tags);
	for (int i = 0; i < HEAVY; i++)
		assert_true(r.tags[i].tag <= HEAVY);
	drop_pins(token, MANY);
}

/* ---- several threads ---- */

/* A report shows a record of one pin's, never half of two; and of two drops
 * with one token one wins. */
struct tagger {
	uint64_t me;
	struct atomic_u64 *shared;	/* a token that others drop, too */
	uint64_t dropped, mixed;
};

static void check_info(void *ctx, const struct seg_pin_info *info)
{
	struct tagger *t = ctx;

	t->mixed += info->key != info->tag + 100 ||
		    info->weight != info->tag * 3;
}

static void *tag_and_look(void *arg)
{
	struct tagger *t = arg;

	for (uint64_t i = 1; i <= TURNS; i++) {
		uint64_t tag = t->me * TURNS + i;
		uint64_t own = add(tag, tag * 3);
		uint64_t old = u64_load_relaxed(t->shared);

		while (!u64_cas_weak_acq_rel(t->shared, &old, own))
			;
		t->dropped += pin_tags_drop(&tags, own);
		if (old)
			t->dropped += pin_tags_drop(&tags, old);
		pin_tags_each(&tags, check_info, t);
	}
	return t->mixed ? arg : NULL;
}

static void test_threads_tag_and_report(void **state)
{
	struct tagger t[THREADS];
	struct atomic_u64 shared = { 0 };
	struct threads threads;
	uint64_t dropped = 0;

	(void)state;
	for (uint64_t i = 0; i < THREADS; i++)
		t[i] = (struct tagger){ i, &shared, 0, 0 };
	threads_start(&threads, THREADS, tag_and_look, t, sizeof(*t));
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < THREADS; i++)
		dropped += t[i].dropped;
	assert_int_equal(dropped, (uint64_t)THREADS * TURNS);
	assert_int_equal(report().tagged, 0);
}

/* ---- the pins of a cache ---- */

static struct seg_pin_report pins_of(struct box *box)
{
	struct seg_pin_report r = { .size = sizeof(r) };

	assert_int_equal(seg_cache_pins(box->cache, &r), 0);
	return r;
}

static void tag_it(struct seg_pin *pin, uint64_t tag)
{
	assert_int_equal(seg_pin_tag(pin, tag), 0);
}

static void test_pins_with_and_without_tags(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin a = put_pinned(box->cache, 1, number(1), 300);
	struct seg_pin b = put_pinned(box->cache, 2, number(2), 500);
	struct seg_pin c = get(box->cache, 2);
	struct seg_pin_report r;

	(void)state;
	assert_int_equal(seg_pin_tag(&a, 0), -EINVAL);
	tag_it(&a, 7);
	tag_it(&b, 8);
	r = pins_of(box);
	assert_int_equal(r.pinned_weight, 800);
	assert_int_equal(r.tagged, 2);
	assert_int_equal(r.longest[0].tag, 7);
	assert_int_equal(r.longest[0].key, 1);
	assert_int_equal(r.longest[1].tag, 8);
	assert_int_equal(r.longest[2].tag, 0);
	assert_int_equal(r.biggest[0].tag, 8);
	assert_int_equal(r.biggest[0].weight, 500);
	assert_tag(r.tags[0], 8, 1, 500);
	assert_tag(r.tags[1], 7, 1, 300);
	assert_tag(r.tags[2], 0, 0, 0);
	/* Tagged anew: one record, which is the youngest now. */
	tag_it(&a, 9);
	r = pins_of(box);
	assert_int_equal(r.tagged, 2);
	assert_int_equal(r.longest[1].tag, 9);
	assert_tag(r.tags[1], 9, 1, 300);
	unpin(&a);
	assert_int_equal(pins_of(box).tagged, 1);
	unpin(&b);
	assert_int_equal(pins_of(box).tagged, 0);
	assert_int_equal(pins_of(box).pinned_weight, 500);
	unpin(&c);
	box_end(box);
}

/* A copy's unpin is known by its record, even while others pin. */
static void test_a_copy_with_a_tag(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin a = put_pinned(box->cache, 1, number(1), 300);
	struct seg_pin b = get(box->cache, 1), copy;

	(void)state;
	tag_it(&a, 7);
	copy = a;
	unpin(&a);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 1);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 300);
	assert_ptr_equal(seg_pin_value(&b), number(1));
	unpin(&b);
	box_end(box);
}

static void test_a_tag_outlives_the_key(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin a = put_pinned(box->cache, 1, number(1), 300);

	(void)state;
	tag_it(&a, UINT64_MAX);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(pins_of(box).longest[0].tag, UINT64_MAX);
	assert_int_equal(pins_of(box).longest[0].weight, 300);
	unpin(&a);
	assert_int_equal(pins_of(box).tagged, 0);
	box_end(box);
}

static void test_reports_of_other_versions(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin a = put_pinned(box->cache, 1, number(1), 300);
	struct seg_pin_report r = {
		.size = offsetof(struct seg_pin_report, longest) };

	(void)state;
	tag_it(&a, 7);
	r.longest[0].tag = 4711;
	assert_int_equal(seg_cache_pins(box->cache, &r), 0);
	assert_int_equal(r.tagged, 1);
	assert_int_equal(r.longest[0].tag, 4711);
	r.size = offsetof(struct seg_pin_report, tags);
	r.tags[0].tag = 4711;
	assert_int_equal(seg_cache_pins(box->cache, &r), 0);
	assert_int_equal(r.biggest[0].tag, 7);
	assert_int_equal(r.tags[0].tag, 4711);
	unpin(&a);
	box_end(box);
}

/* ---- what is left at the end ---- */

/* Whether a line begins so; times in it differ. */
static bool line_begins(struct box *box, unsigned i, const char *text)
{
	return i < recorder_count(&box->lines) &&
	       !strncmp(box->lines.line[i], text, strlen(text)) &&
	       box->lines.level[i] == SEG_LOG_ERROR;
}

static void test_a_leak_report(void **state)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 1 << 20, .name = "PageCache" });
	struct seg_pin pin[6];

	(void)state;
	for (uint64_t i = 0; i < 5; i++)
		pin[i] = put_pinned(box->cache, i, number(i), 4096 * (i + 1));
	pin[5] = get(box->cache, 4);
	tag_it(&pin[0], 33);
	tag_it(&pin[1], 33);
	tag_it(&pin[2], 4);
	tag_it(&pin[5], UINT64_MAX);
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	assert_true(line_begins(box, 0, "PageCache not destroyed: "
				"5 entries pinned, 60 KB"));
	assert_true(line_begins(box, 1, "PageCache: tag 4 pins 1 entries, "
				"12 KB, the longest for "));
	assert_true(line_begins(box, 2, "PageCache: tag 33 pins 2 entries, "
				"12 KB, the longest for "));
	assert_true(line_begins(box, 3, "PageCache: tag 18446744073709551615 "
				"pins 1 entries, 20 KB, the longest for "));
	assert_true(line_begins(box, 4, "PageCache: 2 pins without a tag"));
	assert_int_equal(recorder_count(&box->lines), 5);
	for (int i = 0; i < 6; i++)
		unpin(&pin[i]);
	box_end(box);
}

/* What was removed while it was pinned is a leak, too, if it never comes. */
static void test_a_leak_of_what_was_removed(void **state)
{
	struct box *box = box_begin(1 << 20);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 8192);

	(void)state;
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	assert_true(line_begins(box, 0, "Cache not destroyed: "
				"1 entries pinned, 8 KB"));
	assert_true(line_begins(box, 1, "Cache: 1 pins without a tag"));
	unpin(&pin);
	box_end(box);
}

#define tags_test(f) cmocka_unit_test_setup_teardown(f, new_tags, end_tags)

int main(void)
{
	const struct CMUnitTest tests[] = {
		tags_test(test_none),
		tags_test(test_a_token_is_good_once),
		tags_test(test_the_order_of_a_report),
		tags_test(test_many_records),
		tags_test(test_the_sums_of_tags),
		tags_test(test_more_tags_than_places),
		tags_test(test_the_sums_of_two),
		tags_test(test_a_crowd_of_tags),
		tags_test(test_threads_tag_and_report),
		cmocka_unit_test(test_pins_with_and_without_tags),
		cmocka_unit_test(test_a_copy_with_a_tag),
		cmocka_unit_test(test_a_tag_outlives_the_key),
		cmocka_unit_test(test_reports_of_other_versions),
		cmocka_unit_test(test_a_leak_report),
		cmocka_unit_test(test_a_leak_of_what_was_removed),
	};

	return run_group(tests);
}
