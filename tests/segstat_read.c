/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tools/segstat_read.c: what another process published is read, or it is said
 * why not; whatever the file holds.  What it writes: tests/segstat.sh.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "pools.h"

#include "os.h"
#include "publish.h"

#include "../tools/segstat.h"

enum { NOBODY = 65534 };

static char directory[] = "/tmp/segtest.XXXXXX";
static struct snapshot snapshot;
static struct source source;

static const char *path_of(long process)
{
	static char path[PUBLISHED_PATH_BYTES];

	published_path(path, process);
	return path;
}

static int open_and_close(long process)
{
	int ret = source_open(&source, process, &snapshot);

	if (!ret)
		source_close(&source);
	return ret;
}

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
};

static struct scene scene_begin(void)
{
	struct scene s = { .budget = new_budget(16 * MIB) };

	s.pool = make_pool_with((struct seg_pool_options){
		.budget = s.budget, .publish = 1, .decay_ms = 600000 });
	return s;
}

static void scene_end(struct scene *s)
{
	end_both(s->pool, s->budget);
}

static void test_what_was_published(void **state)
{
	struct scene s = scene_begin();
	const struct published_record *r;
	struct figures f;
	void *segment = seg_alloc(s.pool, 5000);

	(void)state;
	assert_int_equal(source_open(&source, getpid(), &snapshot), 0);
	wait_until(source_read(&source, &snapshot) == 0 &&
		   snapshot_head(&snapshot)->writes_total > 1);
	r = snapshot_next(&snapshot, NULL);
	assert_int_equal(r->kind, PUBLISHED_POOL);
	record_figures(r, &f);
	assert_int_equal(f.pool.active_bytes, 8192);
	assert_int_equal(f.classes[1].active, 1);
	assert_int_equal(f.classes[0].active, 0);
	assert_int_equal(f.budget.limit_bytes, 0);
	record_figures(snapshot_find(&snapshot, r->budget), &f);
	assert_int_equal(f.budget.limit_bytes, 16 * MIB);
	assert_null(snapshot_find(&snapshot, UINT64_MAX));
	r = snapshot_next(&snapshot, r);
	assert_int_equal(r->kind, PUBLISHED_BUDGET);
	assert_null(snapshot_next(&snapshot, r));
	assert_true(snapshot_age(&snapshot) >= 0);
	assert_int_equal(seg_release(s.pool, segment), 0);
	scene_end(&s);
	assert_int_equal(source_read(&source, &snapshot), -ESRCH);
	source_close(&source);
	assert_int_equal(open_and_close(getpid()), -ENOENT);
}

/* A shorter struct, as of an older library: zeros behind it. */
static void test_structs_of_other_lengths(void **state)
{
	uint64_t words[sizeof(struct published_record) / 8 + 6] = { 0 };
	struct published_record r = { .kind = PUBLISHED_POOL,
				      .words = sizeof(words) / 8 };
	uint64_t *figure = words + sizeof(r) / 8;
	struct figures f;

	(void)state;
	memcpy(words, &r, sizeof(r));
	figure[0] = figure[3] = 24;
	figure[1] = 7;		/* active */
	figure[4] = 8;		/* of the first class */
	record_figures((void *)words, &f);
	assert_int_equal(f.pool.active, 7);
	assert_int_equal(f.pool.unused, 0);
	assert_int_equal(f.classes[0].active, 8);
	assert_int_equal(f.classes[1].active, 0);
	figure[0] = 49;		/* more than there is */
	record_figures((void *)words, &f);
	assert_int_equal(f.pool.active, 0);
	figure[0] = UINT64_MAX;
	record_figures((void *)words, &f);
	assert_int_equal(f.pool.active, 0);
}

/* ---- bad files ---- */

static struct published_page page;

/* A valid page of this process, with one record of so many words. */
static struct published_head *make_body(uint64_t *body, uint32_t words)
{
	struct published_head *head = (void *)body;
	struct published_record *r = (void *)(head + 1);

	memset(&page, 0, sizeof(page));
	memset(body, 0, PUBLISHED_BYTES - 8);
	*head = (struct published_head){
		.magic = PUBLISHED_MAGIC,
		.words = sizeof(*head) / 8 + words,
		.process = (uint64_t)getpid(),
		.process_start = os_process_start(getpid()),
		.records = 1,
	};
	*r = (struct published_record){ .words = words, .kind = 99 };
	return head;
}

/* What is said of a file that holds the first bytes of the page. */
static int judge(const uint64_t *body, size_t bytes)
{
	FILE *file = fopen(path_of(getpid()), "w");
	int ret;

	assert_non_null(file);
	if (body)
		published_write(&page, body);
	assert_int_equal(fwrite(&page, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
	ret = open_and_close(getpid());
	unlink(path_of(getpid()));
	return ret;
}

static void test_files_that_are_no_page(void **state)
{
	static uint64_t body[PUBLISHED_WORDS];
	const uint32_t least = sizeof(struct published_record) / 8;
	struct published_head *head = make_body(body, 20);
	struct published_record *r = (void *)(head + 1);

	(void)state;
	assert_int_equal(judge(body, PUBLISHED_BYTES), 0);
	assert_int_equal(judge(body, PUBLISHED_BYTES - 1), -EPROTO);
	assert_int_equal(judge(body, 0), -EPROTO);
	head->magic++;
	assert_int_equal(judge(body, PUBLISHED_BYTES), -EPROTO);
	head = make_body(body, 20);
	head->records = 2;
	assert_int_equal(judge(body, PUBLISHED_BYTES), -EPROTO);
	const uint32_t bad[] = { 0, 1, least, 19, 21, UINT32_MAX };
	for (int i = 0; i < 6; i++) {
		make_body(body, 20);
		r->words = bad[i];
		assert_int_equal(judge(body, PUBLISHED_BYTES), -EPROTO);
	}
	make_body(body, 20);
	memset(r->name, 'x', sizeof(r->name));
	assert_int_equal(judge(body, PUBLISHED_BYTES), -EPROTO);
	/* relaxed: no other thread is there.  Being written for ever: */
	u64_store_relaxed(&page.sequence, 7);
	assert_int_equal(judge(NULL, PUBLISHED_BYTES), -EAGAIN);
	head = make_body(body, 20);
	head->process_start++;	/* another process had that number */
	assert_int_equal(judge(body, PUBLISHED_BYTES), -ESRCH);
	head = make_body(body, 20);
	head->process++;	/* it says to be another */
	assert_int_equal(judge(body, PUBLISHED_BYTES), -EPROTO);
}

static void test_a_fifo(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(path_of(getpid()), 0600), 0);
	alarm(60);	/* the end of the test, if it waits for a writer */
	assert_int_equal(open_and_close(getpid()), -EPROTO);
	alarm(0);
	assert_int_equal(unlink(path_of(getpid())), 0);
}

static void test_a_file_that_gets_shorter(void **state)
{
	static uint64_t body[PUBLISHED_WORDS];
	struct sigaction before, after;
	FILE *file = fopen(path_of(getpid()), "w");

	(void)state;
	assert_int_equal(sigaction(SIGBUS, NULL, &before), 0);
	make_body(body, 20);
	published_write(&page, body);
	assert_int_equal(fwrite(&page, sizeof(page), 1, file), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(source_open(&source, getpid(), &snapshot), 0);
	assert_int_equal(truncate(path_of(getpid()), 0), 0);
	assert_int_equal(source_read(&source, &snapshot), -EPROTO);
	source_close(&source);
	assert_int_equal(unlink(path_of(getpid())), 0);
	assert_int_equal(sigaction(SIGBUS, NULL, &after), 0);
	assert_true(before.sa_handler == after.sa_handler);
}

/* ---- a file that is replaced while it is read ---- */

static bool is_mapped(const char *path)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	bool found = false;

	require(maps != NULL);
	while (!found && fgets(line, sizeof(line), maps))
		found = strstr(line, path) != NULL;
	fclose(maps);
	return found;
}

/* Once the file is open, another takes its name; then it can be read. */
static void *replace(void *file)
{
	char other[PUBLISHED_PATH_BYTES + 4];

	wait_until(is_mapped(path_of(getpid())));
	snprintf(other, sizeof(other), "%s.new", path_of(getpid()));
	require(fclose(fopen(other, "w")) == 0);
	require(rename(other, path_of(getpid())) == 0);
	/* relaxed: no order with anything */
	u64_store_relaxed(&page.sequence, 2);
	require(fseek(file, 0, SEEK_SET) == 0);
	require(fwrite(&page, 8, 1, file) == 1 && fflush(file) == 0);
	return NULL;
}

/* -ESRCH; or what comes of it if the other thread was late. */
static int open_while_replaced(void)
{
	static uint64_t body[PUBLISHED_WORDS];
	FILE *file = fopen(path_of(getpid()), "w");
	pthread_t thread;
	int ret;

	make_body(body, 20);
	published_write(&page, body);
	/* relaxed: no other thread is there.  As if just being written: */
	u64_store_relaxed(&page.sequence, 1);
	assert_int_equal(fwrite(&page, sizeof(page), 1, file), 1);
	assert_int_equal(fflush(file), 0);
	assert_int_equal(pthread_create(&thread, NULL, replace, file), 0);
	do
		ret = open_and_close(getpid());
	while (ret == -EAGAIN);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(fclose(file), 0);
	return ret;
}

/* What was opened is gone, but not what has its name now. */
static void test_a_file_that_is_replaced(void **state)
{
	int ret;

	(void)state;
	do {
		ret = open_while_replaced();
		assert_int_equal(access(path_of(getpid()), F_OK), 0);
		assert_int_equal(unlink(path_of(getpid())), 0);
	} while (ret != -ESRCH);
}

/* ---- who has ended, and who may not look ---- */

#ifndef SEG_TSAN	/* it does not follow a child that has threads */

static int publish_and_die(void *ctx)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = MIB };
	struct seg_pool_options o = { .size = sizeof(o), .publish = 1 };
	static struct seg_pool *pool;

	(void)ctx;
	require(seg_budget_create(&limit, &o.budget) == 0);
	require(seg_pool_create(&o, &pool) == 0);
	raise(SIGKILL);
	return 0;
}

static int count(void *ctx, struct source *s, const struct snapshot *now)
{
	(void)ctx;
	require(s->process == getpid());
	require(snapshot_head(now)->process == (uint64_t)getpid());
	return 1;
}

/* Its file goes when it is looked at; so nothing is left of it. */
static void test_a_process_that_was_killed(void **state)
{
	int status = -1;
	struct scene s;
	pid_t child = fork();

	(void)state;
	if (!child)
		_exit(publish_and_die(NULL));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(access(path_of(child), F_OK), 0);
	s = scene_begin();
	assert_int_equal(sources_each(count, NULL), 1);
	assert_int_equal(access(path_of(child), F_OK), -1);
	assert_int_equal(open_and_close(child), -ENOENT);
	scene_end(&s);
	assert_int_equal(sources_each(count, NULL), 0);
}

static int look_as_nobody(void *ctx)
{
	int expected = *(int *)ctx;

	return setuid(NOBODY) || open_and_close(getppid()) != expected;
}

static void test_who_may_not_look(void **state)
{
	int denied = -EACCES, others = -EPERM;
	struct scene s;

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	s = scene_begin();
	assert_int_equal(run_in_child(look_as_nobody, &denied), 0);
	assert_int_equal(chmod(path_of(getpid()), 0644), 0);
	assert_int_equal(run_in_child(look_as_nobody, &others), 0);
	scene_end(&s);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_published),
		cmocka_unit_test(test_structs_of_other_lengths),
		cmocka_unit_test(test_files_that_are_no_page),
		cmocka_unit_test(test_a_fifo),
		cmocka_unit_test(test_a_file_that_gets_shorter),
		cmocka_unit_test(test_a_file_that_is_replaced),
#ifndef SEG_TSAN
		cmocka_unit_test(test_a_process_that_was_killed),
#endif
	};
#ifndef SEG_TSAN
	const struct CMUnitTest of_root[] = {
		cmocka_unit_test(test_who_may_not_look),
	};
#endif
	int failed;

	if (!mkdtemp(directory) || chmod(directory, 0755))
		return 99;
	published_directory = directory;
	failed = run_group(tests);
#ifndef SEG_TSAN
	if (!geteuid())
		failed += run_group(of_root);
#endif
	rmdir(directory);
	return failed;
}
