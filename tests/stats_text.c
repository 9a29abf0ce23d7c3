/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A pool's figures as JSON and for Prometheus (P12). */
#include "one_node.h"
#include "pools.h"

#include "json_check.h"
#include "stats_fields.h"

enum { BYTES = 65536 };

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	void *held[5];
	char text[BYTES];
};

static void scene_begin(struct scene *s)
{
	s->budget = new_budget(16 * MIB);
	s->pool = make_pool(s->budget);
	for (int i = 0; i < 5; i++) {
		s->held[i] = seg_alloc(s->pool, slice_of(i / 4));
		assert_non_null(s->held[i]);
	}
	memset(s->text, 'x', sizeof(s->text));
}

static void scene_end(struct scene *s)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(seg_release(s->pool, s->held[i]), 0);
	end_both(s->pool, s->budget);
}

static void test_json(void **state)
{
	static struct scene s;
	struct seg_pool_stats all;
	const char *classes;
	int length;

	(void)state;
	scene_begin(&s);
	all = figures(s.pool, SEG_ALL);
	length = seg_pool_stats_json(s.pool, s.text, BYTES);
	assert_int_equal(length, strlen(s.text));
	assert_true(json_is_valid(s.text));
	assert_int_equal(json_find(s.text, "version"), 1);
	assert_int_equal(json_find(s.text, "active"), 5);
	assert_int_equal(json_find(s.text, "slices"), all.slices);
	assert_int_equal(json_find(s.text, "charged_bytes"),
			 all.charged_bytes);
	assert_int_equal(json_find(s.text, "decommitted"), all.decommitted);
	classes = strstr(s.text, "\"classes\":[");
	assert_non_null(classes);
	assert_int_equal(json_find(classes, "slice_bytes"), 4096);
	assert_int_equal(json_find(classes, "active"), 4);
	assert_int_equal(seg_pool_stats_json(s.pool, NULL, 0), length);
	assert_int_equal(seg_pool_stats_json(s.pool, s.text, 10), length);
	assert_int_equal(strlen(s.text), 9);
	assert_int_equal(seg_pool_stats_json(NULL, s.text, 10), -EINVAL);
	assert_int_equal(seg_pool_stats_json(s.pool, NULL, 10), -EINVAL);
	scene_end(&s);
}

/* Each member but the size has its field. */
static void test_no_member_is_missing(void **state)
{
	const struct {
		const struct json_field *fields;
		size_t bytes;
	} all[] = {
		{ budget_stats_fields, sizeof(struct seg_budget_stats) },
		{ pool_stats_fields, sizeof(struct seg_pool_stats) },
		{ cache_stats_fields, sizeof(struct seg_cache_stats) },
	};
	char seen[1024];

	(void)state;
	for (int i = 0; i < 3; i++) {
		memset(seen, 0, sizeof(seen));
		for (const struct json_field *f = all[i].fields; f->name; f++)
			seen[f->offset] = 1;
		assert_int_equal(seen[0], 0);
		for (size_t at = 8; at < all[i].bytes; at += 8)
			assert_int_equal(seen[at], 1);
	}
}

/* Each line is a type or a sample, and a type stands before its samples. */
static void check_lines(char *text)
{
	char metric[64] = "", kind[16], name[64], labels[96];
	unsigned long long value;
	unsigned samples = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "# TYPE %63s %15s", metric, kind) == 2) {
			bool total = strlen(metric) > 6 &&
				     !strcmp(metric + strlen(metric) - 6,
					     "_total");

			assert_string_equal(kind, total ? "counter" : "gauge");
			continue;
		}
		assert_int_equal(sscanf(line, "%63[a-z_]{%95[^}]} %llu", name,
					labels, &value), 3);
		assert_string_equal(name, metric);
		assert_non_null(strstr(labels, "pool=\"a\\\"b\\\\c\""));
		samples++;
	}
	assert_int_equal(samples, 22 * SEG_CLASSES + 5);
}

static void test_prometheus(void **state)
{
	static struct scene s;
	int length;

	(void)state;
	scene_begin(&s);
	length = seg_pool_stats_prometheus(s.pool, "a\"b\\c\n\xc3", s.text,
					   BYTES);
	assert_int_equal(length, strlen(s.text));
	assert_non_null(strstr(s.text, "# TYPE seg_active gauge\n"
			       "seg_active{pool=\"a\\\"b\\\\c\",class=\"4096\"}"
			       " 4\nseg_active{pool=\"a\\\"b\\\\c\","
			       "class=\"8192\"} 1\n"));
	assert_non_null(strstr(s.text, "seg_misuses_total{pool=\"a\\\"b\\\\c\"}"
			       " 0\n"));
	assert_int_equal(s.text[length - 1], '\n');
	check_lines(s.text);
	assert_int_equal(seg_pool_stats_prometheus(s.pool, NULL, s.text, 1),
			 -EINVAL);
	assert_int_equal(seg_pool_stats_prometheus(NULL, "", s.text, 1),
			 -EINVAL);
	assert_int_equal(seg_pool_stats_prometheus(s.pool, "", NULL, 1),
			 -EINVAL);
	scene_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_no_member_is_missing),
		cmocka_unit_test(test_prometheus),
	};

	return run_group(tests);
}
