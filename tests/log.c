/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/log.h: one sink, by level, without recursion, lines cut to fit (P12). */
#include "testing.h"

#include "log.h"

enum { LONGEST = 255 };

static struct recorder recorder;

static struct log log_at(enum seg_log_level level)
{
	recorder = (struct recorder)RECORDER_INIT;
	return (struct log){ .fn = recorder_log, .ctx = &recorder,
			     .level = level };
}

static void test_levels(void **state)
{
	(void)state;
	for (int level = SEG_LOG_OFF; level <= SEG_LOG_SEGMENT; level++) {
		struct log log = log_at((enum seg_log_level)level);

		for (int event = SEG_LOG_ERROR; event <= SEG_LOG_SEGMENT;
		     event++) {
			unsigned before = recorder.count;

			log_event(&log, (enum seg_log_level)event, "x");
			assert_int_equal(recorder.count - before,
					 event <= level);
			assert_int_equal(log_wants(&log,
					 (enum seg_log_level)event),
					 event <= level);
		}
	}
}

static void test_line_is_formatted_with_its_level(void **state)
{
	struct log log = log_at(SEG_LOG_REGION);

	(void)state;
	errno = ENOTTY;
	log_event(&log, SEG_LOG_ERROR, "%s of pool %d", "region", 3);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(recorder.count, 1);
	assert_int_equal(recorder.level[0], SEG_LOG_ERROR);
	assert_string_equal(recorder.line[0], "region of pool 3");
}

static void test_no_callback_is_off(void **state)
{
	struct log log = { .level = SEG_LOG_SEGMENT };

	(void)state;
	assert_false(log_wants(&log, SEG_LOG_ERROR));
	log_event(&log, SEG_LOG_ERROR, "%d", 1);
}

static void test_long_lines_are_cut(void **state)
{
	struct log log = log_at(SEG_LOG_ERROR);
	char text[400];

	(void)state;
	for (size_t n = LONGEST - 1; n <= LONGEST + 2; n++) {
		size_t kept = n < LONGEST ? n : LONGEST;

		recorder.count = 0;
		memset(text, 'a', n);
		text[n] = '\0';
		log_event(&log, SEG_LOG_ERROR, "%s", text);
		assert_int_equal(strlen(recorder.line[0]), kept);
		assert_memory_equal(recorder.line[0], text, kept);
	}
}

/* A callback that causes an event, and spoils errno. */
static void log_again(void *ctx, enum seg_log_level level, const char *line)
{
	struct log *log = ctx;
	struct log plain = { .fn = recorder_log, .ctx = &recorder,
			     .level = log->level };

	recorder_log(&recorder, level, line);
	log_event(log, level, "again by the same");
	log_event(&plain, level, "again by another");
	errno = EDOM;
}

static void test_events_of_a_callback_are_not_reported(void **state)
{
	struct log log = { .fn = log_again, .level = SEG_LOG_ERROR };

	(void)state;
	recorder = (struct recorder)RECORDER_INIT;
	log.ctx = &log;
	for (unsigned i = 1; i <= 2; i++) {
		errno = ENOTTY;
		log_event(&log, SEG_LOG_ERROR, "first");
		assert_int_equal(errno, ENOTTY);
		assert_int_equal(recorder.count, i);
		assert_string_equal(recorder.line[i - 1], "first");
	}
}

/* Another thread's events are, even while this one is in a callback. */
static struct log threads_log;

static void *log_once(void *arg)
{
	(void)arg;
	log_event(&threads_log, SEG_LOG_ERROR, "of the other thread");
	return NULL;
}

static void log_in_thread(void *ctx, enum seg_log_level level, const char *line)
{
	struct threads t;

	recorder_log(ctx, level, line);
	if (recorder_has(ctx, "of the other thread"))
		return;
	threads_start(&t, 1, log_once, NULL, 0);
	threads_join(&t);
}

static void test_other_threads_are_not_silenced(void **state)
{
	(void)state;
	threads_log = log_at(SEG_LOG_ERROR);
	threads_log.fn = log_in_thread;
	log_event(&threads_log, SEG_LOG_ERROR, "of this thread");
	assert_int_equal(recorder_count(&recorder), 2);
	assert_int_equal(recorder_has(&recorder, "of the other thread"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_line_is_formatted_with_its_level),
		cmocka_unit_test(test_no_callback_is_off),
		cmocka_unit_test(test_long_lines_are_cut),
		cmocka_unit_test(test_events_of_a_callback_are_not_reported),
		cmocka_unit_test(test_other_threads_are_not_silenced),
	};

	return run_group(tests);
}
