/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/conf.h: SEG_CONF fills in what the program left at its default, never
 * overrides what it set, and says what it does not understand (P12).
 */
#include "testing.h"

#include "conf.h"

static struct recorder recorder;
static const struct log recording = { .fn = recorder_log, .ctx = &recorder,
				      .level = SEG_LOG_ERROR };

static struct seg_pool_options apply_to(struct seg_pool_options o,
					const char *text)
{
	recorder = (struct recorder)RECORDER_INIT;
	errno = ENOTTY;
	conf_apply(text, &o, &recording);
	assert_int_equal(errno, ENOTTY);
	return o;
}

static struct seg_pool_options apply(const char *text)
{
	return apply_to((struct seg_pool_options){ 0 }, text);
}

static void assert_equal_options(struct seg_pool_options a,
				 struct seg_pool_options b)
{
	assert_int_equal(a.decay_ms, b.decay_ms);
	assert_int_equal(a.region_bytes, b.region_bytes);
	assert_int_equal(a.wait_ms, b.wait_ms);
	assert_int_equal(a.log_level, b.log_level);
	assert_int_equal(a.publish, b.publish);
	assert_int_equal(a.huge_pages, b.huge_pages);
	assert_int_equal(a.ahead, b.ahead);
}

static void test_each_name_alone(void **state)
{
	(void)state;
	assert_equal_options(apply("decay_ms:250"),
		(struct seg_pool_options){ .decay_ms = 250 });
	assert_equal_options(apply("region_bytes:65536"),
		(struct seg_pool_options){ .region_bytes = 65536 });
	assert_equal_options(apply("wait_ms:7"),
		(struct seg_pool_options){ .wait_ms = 7 });
	assert_equal_options(apply("log_level:5"),
		(struct seg_pool_options){ .log_level = SEG_LOG_SEGMENT });
	assert_equal_options(apply("publish:1"),
		(struct seg_pool_options){ .publish = 1 });
	assert_equal_options(apply("huge_pages:3"),
		(struct seg_pool_options){ .huge_pages =
						   SEG_HUGE_PAGES_NEVER });
	assert_equal_options(apply("ahead:2"),
		(struct seg_pool_options){ .ahead = SEG_AHEAD_MAP });
	assert_int_equal(recorder.count, 0);
}

static void test_all_names_together(void **state)
{
	const struct seg_pool_options all = { .decay_ms = 1, .wait_ms = -1,
					      .region_bytes = 4096,
					      .log_level = SEG_LOG_OFF };

	(void)state;
	assert_equal_options(apply("log_level:1,wait_ms:-1,region_bytes:4096,"
				   "decay_ms:1"), all);
	assert_int_equal(recorder.count, 0);
}

static void test_largest_values(void **state)
{
	const struct seg_pool_options all = { .decay_ms = UINT32_MAX,
					      .wait_ms = INT32_MAX,
					      .region_bytes = 64 << 20 };

	(void)state;
	assert_equal_options(apply("decay_ms:4294967295,wait_ms:2147483647,"
				   "region_bytes:67108864"), all);
	assert_int_equal(recorder.count, 0);
}

static void test_the_program_is_never_overridden(void **state)
{
	const struct seg_pool_options set = { .decay_ms = 11, .wait_ms = 22,
					      .region_bytes = 8192,
					      .log_level = SEG_LOG_ERROR };

	(void)state;
	assert_equal_options(apply_to(set, "decay_ms:1,wait_ms:2,log_level:4,"
				      "region_bytes:4096"), set);
	assert_int_equal(recorder.count, 0);
}

static void test_nothing_said_changes_nothing(void **state)
{
	const struct seg_pool_options none = { 0 };

	(void)state;
	assert_equal_options(apply(NULL), none);
	assert_equal_options(apply(""), none);
	assert_equal_options(apply(",,,"), none);
	assert_int_equal(recorder.count, 0);
}

static void test_bad_values_are_ignored_and_logged(void **state)
{
	static const char *const bad[] = {
		"decay_ms:0", "decay_ms:-1", "decay_ms:4294967296",
		"decay_ms:", "decay_ms", "decay_ms:1x", "decay_ms:x",
		"decay_ms:99999999999999999999", "decay_ms:1:2",
		"region_bytes:4095", "region_bytes:67108865",
		"region_bytes:5000",
		"wait_ms:-2", "wait_ms:0", "wait_ms:2147483648",
		"log_level:0", "log_level:6", "publish:0", "publish:2",
		"huge_pages:0", "huge_pages:4", "ahead:0", "ahead:4",
	};
	char expected[80];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_equal_options(apply(bad[i]),
				     (struct seg_pool_options){ 0 });
		assert_int_equal(recorder.count, 1);
		assert_int_equal(recorder.level[0], SEG_LOG_ERROR);
		snprintf(expected, sizeof(expected),
			 "SEG_CONF: bad value in '%.*s' ignored",
			 (int)strcspn(bad[i], ":"), bad[i]);
		assert_string_equal(recorder.line[0], expected);
	}
}

static void test_unknown_names_are_ignored_and_logged(void **state)
{
	static const char *const unknown[] = { "decay", "decay_msx", "Wait_ms",
					       " decay_ms", "size" };
	char text[64], expected[80];

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
		snprintf(text, sizeof(text), "%s:5", unknown[i]);
		assert_equal_options(apply(text),
				     (struct seg_pool_options){ 0 });
		assert_int_equal(recorder.count, 1);
		snprintf(expected, sizeof(expected),
			 "SEG_CONF: unknown name '%s' ignored", unknown[i]);
		assert_string_equal(recorder.line[0], expected);
	}
}

/* What is right counts, whatever stands beside it. */
static void test_bad_ones_do_not_spoil_the_rest(void **state)
{
	(void)state;
	assert_equal_options(apply("nonsense:1,decay_ms:5,wait_ms:x,,"
				   "log_level:2,"),
		(struct seg_pool_options){ .decay_ms = 5,
					   .log_level = SEG_LOG_ERROR });
	assert_int_equal(recorder.count, 2);
}

/* The first of two wins: it is set by then. */
static void test_the_last_of_two_counts(void **state)
{
	(void)state;
	assert_equal_options(apply("decay_ms:5,decay_ms:6"),
			     (struct seg_pool_options){ .decay_ms = 6 });
}

static void test_a_long_token_is_cut_and_skipped(void **state)
{
	char text[300];

	(void)state;
	memset(text, 'a', 200);
	strcpy(text + 200, ",decay_ms:5");
	assert_equal_options(apply(text),
			     (struct seg_pool_options){ .decay_ms = 5 });
	assert_int_equal(recorder.count, 1);
	assert_int_equal(strlen(recorder.line[0]),
			 strlen("SEG_CONF: bad value in '' ignored") + 63);
	memset(text, '0', 200);
	memcpy(text, "decay_ms:1000", 13);
	assert_equal_options(apply(text), (struct seg_pool_options){
		.decay_ms = 5 });
}

/* A line of the log has no newline. */
static void test_control_characters_are_not_logged(void **state)
{
	(void)state;
	apply("a\nb:1");
	assert_int_equal(recorder.count, 1);
	assert_string_equal(recorder.line[0],
			    "SEG_CONF: unknown name 'a?b' ignored");
}

static void test_text_is_that_of_the_environment(void **state)
{
	(void)state;
	assert_int_equal(setenv("SEG_CONF", "decay_ms:77", 1), 0);
	assert_string_equal(conf_text(), "decay_ms:77");
	assert_int_equal(unsetenv("SEG_CONF"), 0);
	assert_null(conf_text());
}

/* All the way through a pool: a level from outside lets lines through. */
static void test_a_pool_obeys(void **state)
{
	struct seg_budget *b = new_budget(1 << 20);
	struct seg_pool_options o = pool_options(b);
	struct seg_pool *p;

	(void)state;
	recorder = (struct recorder)RECORDER_INIT;
	o.log = recorder_log;
	o.log_ctx = &recorder;
	assert_int_equal(setenv("SEG_CONF", "log_level:5,typo:1", 1), 0);
	p = new_pool_with(&o);
	assert_int_equal(unsetenv("SEG_CONF"), 0);
	assert_int_equal(recorder_has(&recorder, "unknown name 'typo'"), 1);
	assert_int_equal(seg_release(p, seg_alloc(p, 1)), 0);
	assert_int_equal(recorder_has(&recorder, "allocate() size=1"), 1);
	end_pool(p);
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_name_alone),
		cmocka_unit_test(test_all_names_together),
		cmocka_unit_test(test_largest_values),
		cmocka_unit_test(test_the_program_is_never_overridden),
		cmocka_unit_test(test_nothing_said_changes_nothing),
		cmocka_unit_test(test_bad_values_are_ignored_and_logged),
		cmocka_unit_test(test_unknown_names_are_ignored_and_logged),
		cmocka_unit_test(test_bad_ones_do_not_spoil_the_rest),
		cmocka_unit_test(test_the_last_of_two_counts),
		cmocka_unit_test(test_a_long_token_is_cut_and_skipped),
		cmocka_unit_test(test_control_characters_are_not_logged),
		cmocka_unit_test(test_text_is_that_of_the_environment),
		cmocka_unit_test(test_a_pool_obeys),
	};

	return run_group(tests);
}
