/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/keeper.h: deferred work runs once, after a grace period (P4), whether the
 * keeper or a flush does it; work that fails stays (P11); one thread exists
 * while there is a duty, and none afterwards.
 */
#include "testing.h"

#include <sys/syscall.h>

#include "keeper.h"
#include "os.h"
#include "rcu.h"

enum { THREADS = 4, ROUNDS = 100, ORDERED = 6 };

static long thread_number(void)
{
	return syscall(SYS_gettid);
}

/* Work that posts when it has run, after failing a number of times. */
struct job {
	struct work work;	/* first */
	sem_t done;
	int failures;
	int runs;
	int turn;		/* the when-th of all jobs */
	bool reader_had_left;
	long by;		/* thread number */
};

static int turns;
static bool reader_left;	/* plain: ordered by the grace period */

static bool job_run(struct work *work)
{
	struct job *job = (struct job *)work;

	job->runs++;
	job->by = thread_number();
	job->reader_had_left = reader_left;
	if (job->failures-- > 0)
		return false;
	job->turn = ++turns;
	sem_post(&job->done);
	return true;
}

static void job_init(struct job *job, int failures)
{
	*job = (struct job){ .work.run = job_run, .failures = failures };
	sem_init(&job->done, 0, 0);
}

/* A duty that counts its looks. */
struct sentry {
	struct keeper_duty duty;	/* first */
	sem_t looked;
	uint64_t again_ns;
	uint64_t last_ns;
	bool went_back;
};

static uint64_t sentry_look(struct keeper_duty *duty, uint64_t now_ns)
{
	struct sentry *s = (struct sentry *)duty;

	s->went_back |= now_ns < s->last_ns;
	s->last_ns = now_ns;
	sem_post(&s->looked);
	return s->again_ns;
}

static void sentry_join(struct sentry *s, uint64_t again_ns)
{
	*s = (struct sentry){ .duty.run = sentry_look, .again_ns = again_ns };
	sem_init(&s->looked, 0, 0);
	assert_int_equal(keeper_join(&s->duty), 0);
}

static void sentry_leave(struct sentry *s)
{
	keeper_leave(&s->duty);
	assert_false(s->went_back);
	sem_destroy(&s->looked);
}

/* A thread that was joined is gone for the kernel a moment later. */
static void await_end_of(long thread)
{
	while (syscall(SYS_tgkill, getpid(), thread, 0) == 0)
		sched_yield();
}

/* A reader that stays in its section until it is told to go. */
struct reader {
	pthread_t thread;
	sem_t inside, go;
};

static void *read_until_told(void *arg)
{
	struct reader *r = arg;

	rcu_enter();
	sem_post(&r->inside);
	wait_for(&r->go);
	reader_left = true;
	rcu_leave();
	return NULL;
}

static void reader_start(struct reader *r)
{
	reader_left = false;
	sem_init(&r->inside, 0, 0);
	sem_init(&r->go, 0, 0);
	assert_int_equal(pthread_create(&r->thread, NULL, read_until_told, r),
			 0);
	wait_for(&r->inside);
}

static void reader_end(struct reader *r)
{
	sem_post(&r->go);
	pthread_join(r->thread, NULL);
}

static void test_keeper_runs_work_after_the_reader_left(void **state)
{
	struct sentry sentry;
	struct reader reader;
	struct job job;

	(void)state;
	sentry_join(&sentry, OS_FOREVER);
	job_init(&job, 0);
	reader_start(&reader);
	keeper_defer(&job.work);
	assert_false(happens_soon(&job.done));
	reader_end(&reader);
	wait_for(&job.done);
	sentry_leave(&sentry);
	assert_true(job.reader_had_left);
	assert_int_equal(job.runs, 1);
	assert_int_not_equal(job.by, thread_number());
}

static void *flush(void *arg)
{
	(void)arg;
	keeper_flush();
	return NULL;
}

static void test_flush_runs_work_after_the_reader_left(void **state)
{
	struct reader reader;
	struct threads t;
	struct job job;

	(void)state;
	job_init(&job, 0);
	reader_start(&reader);
	keeper_defer(&job.work);
	threads_start(&t, 1, flush, NULL, 0);
	assert_false(happens_soon(&job.done));
	reader_end(&reader);
	threads_join(&t);
	assert_true(job.reader_had_left);
	assert_int_equal(job.runs, 1);
}

static void test_flush_works_in_the_calling_thread(void **state)
{
	struct job job;

	(void)state;
	job_init(&job, 0);
	keeper_flush();
	keeper_defer(&job.work);
	assert_int_equal(job.runs, 0);
	keeper_flush();
	keeper_flush();
	assert_int_equal(job.runs, 1);
	assert_int_equal(job.by, thread_number());
}

static void test_work_runs_oldest_first_failed_before_new(void **state)
{
	struct job job[ORDERED];
	const int turn[ORDERED] = { 1, 4, 2, 5, 3, 6 };

	(void)state;
	turns = 0;
	for (int i = 0; i < ORDERED; i++)
		job_init(&job[i], i == 1 || i == 3);
	for (int i = 0; i < ORDERED - 1; i++)
		keeper_defer(&job[i].work);
	keeper_flush();
	keeper_defer(&job[ORDERED - 1].work);
	keeper_flush();
	for (int i = 0; i < ORDERED; i++) {
		assert_int_equal(job[i].turn, turn[i]);
		assert_int_equal(job[i].runs, 1 + (i == 1 || i == 3));
	}
}

static void test_work_that_fails_stays_deferred(void **state)
{
	struct job job;

	(void)state;
	job_init(&job, 3);
	keeper_defer(&job.work);
	for (int run = 1; run <= 4; run++) {
		keeper_flush();
		assert_int_equal(job.runs, run);
	}
	keeper_flush();
	assert_int_equal(job.runs, 4);
}

/* Without any further call. */
static void test_keeper_tries_failed_work_again(void **state)
{
	struct sentry sentry;
	struct job job;

	(void)state;
	sentry_join(&sentry, OS_FOREVER);
	job_init(&job, 3);
	keeper_defer(&job.work);
	wait_for(&job.done);
	sentry_leave(&sentry);
	assert_int_equal(job.runs, 4);
}

/* Work that defers more work. */
static struct job second;

static bool defer_second(struct work *work)
{
	(void)work;
	keeper_defer(&second.work);
	return true;
}

static void test_work_may_defer_work(void **state)
{
	struct work first = { .run = defer_second };
	struct sentry sentry;

	(void)state;
	sentry_join(&sentry, OS_FOREVER);
	job_init(&second, 0);
	keeper_defer(&first);
	wait_for(&second.done);
	sentry_leave(&sentry);
	assert_int_equal(second.runs, 1);
}

static void test_duty_is_looked_at_on_a_kick(void **state)
{
	struct sentry sentry;

	(void)state;
	sentry_join(&sentry, OS_FOREVER);
	for (int i = 0; i < ROUNDS; i++) {
		while (sem_trywait(&sentry.looked) == 0)
			;
		keeper_kick();
		wait_for(&sentry.looked);
	}
	sentry_leave(&sentry);
}

/* P3: within a stated time, without any further call. */
static void test_duty_is_looked_at_again_by_itself(void **state)
{
	struct sentry often, never;

	(void)state;
	sentry_join(&never, OS_FOREVER);
	sentry_join(&often, 1000000);
	keeper_kick();
	for (int i = 0; i < 5; i++)
		wait_for(&often.looked);
	sentry_leave(&often);
	sentry_leave(&never);
}

static long who_works(void)
{
	struct job job;

	job_init(&job, 0);
	keeper_defer(&job.work);
	wait_for(&job.done);
	return job.by;
}

static void test_one_thread_while_there_is_a_duty(void **state)
{
	struct sentry a, b;
	long keeper;

	(void)state;
	sentry_join(&a, OS_FOREVER);
	keeper = who_works();
	assert_int_not_equal(keeper, thread_number());
	sentry_join(&b, OS_FOREVER);
	assert_int_equal(who_works(), keeper);
	sentry_leave(&a);
	assert_int_equal(who_works(), keeper);
	sentry_leave(&b);
	await_end_of(keeper);
}

/* P11: re-creation after the end, from several threads at once. */
static void *come_and_go(void *ret_last_keeper)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct sentry s = { .duty.run = sentry_look,
				    .again_ns = OS_FOREVER };

		sem_init(&s.looked, 0, 0);
		if (keeper_join(&s.duty))
			return ret_last_keeper;
		*(long *)ret_last_keeper = who_works();
		keeper_leave(&s.duty);
	}
	return NULL;
}

static void test_many_come_and_go(void **state)
{
	long last_keepers[THREADS];
	struct threads t;

	(void)state;
	threads_start(&t, THREADS, come_and_go, last_keepers, sizeof(long));
	assert_int_equal(threads_join(&t), 0);
	for (int i = 0; i < THREADS; i++)
		await_end_of(last_keepers[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeper_runs_work_after_the_reader_left),
		cmocka_unit_test(test_flush_runs_work_after_the_reader_left),
		cmocka_unit_test(test_flush_works_in_the_calling_thread),
		cmocka_unit_test(
			test_work_runs_oldest_first_failed_before_new),
		cmocka_unit_test(test_work_that_fails_stays_deferred),
		cmocka_unit_test(test_keeper_tries_failed_work_again),
		cmocka_unit_test(test_work_may_defer_work),
		cmocka_unit_test(test_duty_is_looked_at_on_a_kick),
		cmocka_unit_test(test_duty_is_looked_at_again_by_itself),
		cmocka_unit_test(test_one_thread_while_there_is_a_duty),
		cmocka_unit_test(test_many_come_and_go),
	};

	return run_group(tests);
}
