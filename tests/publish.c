/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/publish.h: one write at a time is read, whole; the file is there while a
 * pool wants it, says what the statistics say, and is each process's own.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "pools.h"

#include "os.h"
#include "publish.h"

enum { READERS = 2, WRITES = 200000, HEAD_WORDS = 10 };

static char directory[] = "/tmp/segtest.XXXXXX";

/* ---- the page ---- */

static struct published_page page;
static struct atomic_u32 written;	/* 1: that was all */
static sem_t reading;

static void write_number(uint64_t number, uint64_t words)
{
	static uint64_t body[PUBLISHED_WORDS];

	body[0] = PUBLISHED_MAGIC;
	body[1] = words;
	for (uint64_t i = 2; i < words; i++)
		body[i] = number;
	published_write(&page, body);
}

/* What the writes say is ever newer, and never mixed. */
static void *read_numbers(void *body)
{
	uint64_t *word = body;
	uint64_t last = 0, reads = 0;
	bool end;

	do {
		/* acquire <- test_a_read_is_one_write() */
		end = u32_load_acquire(&written) != 0;
		if (published_read(&page, word))
			continue;
		if (!reads++)
			sem_post(&reading);
		require(word[2] >= last && word[1] == 100 + word[2] % 50);
		last = word[2];
		for (uint64_t i = 2; i < word[1]; i++)
			require(word[i] == last);
	} while (!end);
	require(last == WRITES && reads);
	return NULL;
}

static void test_a_read_is_one_write(void **state)
{
	static uint64_t bodies[READERS][PUBLISHED_WORDS];
	struct threads threads;

	(void)state;
	sem_init(&reading, 0, 0);
	write_number(1, 100 + 1);
	threads_start(&threads, READERS, read_numbers, bodies,
		      sizeof(bodies[0]));
	for (int i = 0; i < READERS; i++)
		wait_for(&reading);
	for (uint64_t i = 2; i <= WRITES; i++)
		write_number(i, 100 + i % 50);
	u32_store_release(&written, 1); /* release -> read_numbers() */
	assert_int_equal(threads_join(&threads), 0);
	sem_destroy(&reading);
}

static void test_what_is_no_page(void **state)
{
	static uint64_t body[PUBLISHED_WORDS];
	static const uint64_t words[] = { 0, HEAD_WORDS - 1,
					  PUBLISHED_WORDS + 1, UINT64_MAX };

	(void)state;
	assert_int_equal(sizeof(struct published_head), 8 * HEAD_WORDS);
	memset(&page, 0, sizeof(page));
	assert_int_equal(published_read(&page, body), -EAGAIN);
	write_number(1, PUBLISHED_WORDS);
	assert_int_equal(published_read(&page, body), 0);
	/* relaxed, all of these: no other thread is there */
	u64_store_relaxed(&page.sequence, 3);
	assert_int_equal(published_read(&page, body), -EAGAIN);
	write_number(1, PUBLISHED_WORDS);
	assert_int_equal(published_read(&page, body), 0);
	for (int i = 0; i < 4; i++) {
		u64_store_relaxed(&page.word[1], words[i]);
		assert_int_equal(published_read(&page, body), -EPROTO);
	}
	write_number(1, HEAD_WORDS);
	assert_int_equal(published_read(&page, body), 0);
	u64_store_relaxed(&page.word[0], PUBLISHED_MAGIC + 1);
	assert_int_equal(published_read(&page, body), -EPROTO);
}

/* ---- the file ---- */

struct view {
	uint64_t body[PUBLISHED_WORDS];
	struct published_head head;
	unsigned count[PUBLISHED_CACHE + 1];
};

static bool file_is_there(long process)
{
	char path[PUBLISHED_PATH_BYTES];

	published_path(path, process);
	return access(path, F_OK) == 0;
}

/* What the file of the process says; false: not now. */
static bool view(struct view *v, long process)
{
	char path[PUBLISHED_PATH_BYTES];
	const struct published_page *mapped;
	struct stat s;
	int ret = -1;
	int fd;

	published_path(path, process);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	require(!fstat(fd, &s) && (s.st_mode & 07777) == 0600);
	if (s.st_size == PUBLISHED_BYTES) {
		mapped = mmap(NULL, PUBLISHED_BYTES, PROT_READ, MAP_SHARED, fd,
			      0);
		require(mapped != MAP_FAILED);
		ret = published_read(mapped, v->body);
		munmap((void *)mapped, PUBLISHED_BYTES);
	}
	close(fd);
	memcpy(&v->head, v->body, sizeof(v->head));
	return ret == 0;
}

/* The one with that name; there must be one. */
static struct published_record *record(struct view *v, const char *name)
{
	struct published_record *found = NULL;
	uint64_t at = HEAD_WORDS, records = 0;

	memset(v->count, 0, sizeof(v->count));
	for (; at < v->head.words; records++) {
		struct published_record *r = (void *)(v->body + at);

		v->count[r->kind]++;
		if (!strcmp(r->name, name))
			found = r;
		at += r->words;
	}
	require(found && at == v->head.words && records == v->head.records);
	return found;
}

static struct seg_pool_options publishing(struct seg_budget *budget)
{
	return (struct seg_pool_options){ .budget = budget, .name = "first",
					  .publish = 1, .decay_ms = 600000 };
}

static struct seg_budget *named_budget(const char *name,
				       struct seg_budget *parent)
{
	struct seg_budget_options o = { .size = sizeof(o), .parent = parent,
					.limit_bytes = 16 * MIB, .name = name };
	struct seg_budget *b = NULL;

	require(seg_budget_create(&o, &b) == 0);
	return b;
}

static void ignore(void *ctx, uint64_t key, void *value, uint64_t weight,
		   enum seg_cause cause)
{
	(void)ctx, (void)key, (void)value, (void)weight, (void)cause;
}

static struct seg_cache *named_cache(const char *name,
				     struct seg_budget *budget)
{
	struct seg_cache_options o = { .size = sizeof(o), .max_weight = 100,
				       .listener = ignore, .name = name,
				       .budget = budget };
	struct seg_cache *c = NULL;

	assert_int_equal(seg_cache_create(&o, &c), 0);
	return c;
}

static void test_no_file_if_nobody_wants_one(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	assert_false(file_is_there(getpid()));
	end_both(pool, b);
}

static void check_figures(struct view *v, struct seg_pool *pool,
			  struct seg_budget *root)
{
	struct seg_pool_stats all = figures(pool, SEG_ALL), *published;
	struct seg_budget_stats *budget;
	struct published_record *r = record(v, "first");
	uint64_t child = r->budget;

	published = (void *)(r + 1);
	assert_int_equal(r->kind, PUBLISHED_POOL);
	assert_memory_equal(published, &all, sizeof(all));
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_pool_stats one = figures(pool, c);

		assert_memory_equal(++published, &one, sizeof(one));
	}
	r = record(v, "child");
	assert_int_equal(r->kind, PUBLISHED_BUDGET);
	assert_int_equal(r->id, child);
	assert_int_equal(r->budget, record(v, "root")->id);
	budget = (void *)(record(v, "root") + 1);
	assert_int_equal(budget->limit_bytes, 16 * MIB);
	assert_int_equal(budget->charged_bytes, charged(root));
	assert_int_equal(record(v, "root")->budget, 0);
}

static void test_it_says_what_the_statistics_say(void **state)
{
	static struct view v;
	struct seg_budget *root = named_budget("root", NULL);
	struct seg_budget *child = named_budget("child", root);
	struct seg_pool_options o = publishing(child);
	struct seg_pool *other = make_pool(child);
	struct seg_cache *cache = named_cache("pages", root);
	struct seg_pool *pool = make_pool_with(o);
	void *segment = seg_alloc(pool, 5000);

	(void)state;
	assert_non_null(segment);
	assert_true(view(&v, getpid()));
	assert_int_equal(v.head.process, getpid());
	assert_int_equal(v.head.process_start, os_process_start(getpid()));
	assert_string_equal(v.head.version, seg_version());
	assert_int_equal(v.head.omitted, 0);
	assert_int_equal(record(&v, "Pool")->kind, PUBLISHED_POOL);
	assert_int_equal(record(&v, "pages")->kind, PUBLISHED_CACHE);
	assert_int_equal(record(&v, "pages")->budget,
			 record(&v, "root")->id);
	assert_int_equal(v.count[PUBLISHED_BUDGET], 2);
	assert_int_equal(v.count[PUBLISHED_POOL], 2);
	assert_int_equal(v.count[PUBLISHED_CACHE], 1);
	/* the keeper's, with the segment in it */
	wait_until(view(&v, getpid()) && v.head.writes_total > 1);
	check_figures(&v, pool, root);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_cache_destroy(cache), 0);
	wait_until(view(&v, getpid()) && record(&v, "first") &&
		   !v.count[PUBLISHED_CACHE]);
	end_pool(other);
	end_both(pool, child);
	assert_false(file_is_there(getpid()));
	end_budget(root);
}

/* A pool that could not be destroyed is still there. */
static void test_until_the_last_that_wants_it(void **state)
{
	static struct view v;
	struct seg_budget *b = named_budget("only", NULL);
	struct seg_pool_options o = publishing(b);
	struct seg_pool *first = make_pool_with(o), *second;
	void *segment;

	(void)state;
	o.name = "second";
	second = make_pool_with(o);
	segment = seg_alloc(second, 1);
	end_pool(first);
	assert_int_equal(seg_pool_destroy(second), -EBUSY);
	assert_true(file_is_there(getpid()));
	assert_true(view(&v, getpid()));
	wait_until(view(&v, getpid()) && record(&v, "second") &&
		   v.count[PUBLISHED_POOL] == 1);
	assert_int_equal(seg_release(second, segment), 0);
	end_both(second, b);
	assert_false(file_is_there(getpid()));
}

static void test_what_finds_no_room_is_counted(void **state)
{
	enum { MANY = 1000 };
	static struct seg_budget *many[MANY];
	static struct view v;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool_options o = publishing(b);
	struct seg_pool *pool;

	(void)state;
	for (int i = 0; i < MANY; i++)
		many[i] = new_budget(MIB);
	pool = make_pool_with(o);
	assert_true(view(&v, getpid()));
	record(&v, "first");
	assert_true(v.head.omitted > 0);
	assert_int_equal(v.head.records + v.head.omitted, MANY + 2);
	end_both(pool, b);
	for (int i = 0; i < MANY; i++)
		end_budget(many[i]);
}

/* ---- what goes wrong ---- */

static void test_the_keeper_tries_again(void **state)
{
	static struct view v;
	struct events events = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool_options o = publishing(b);
	char missing[sizeof(directory) + 8];
	struct seg_pool *pool;

	(void)state;
	snprintf(missing, sizeof(missing), "%s/later", directory);
	published_directory = missing;
	o.log = recorder_log;
	o.log_ctx = &events.lines;
	pool = make_pool_with(o);
	assert_int_equal(recorder_has(&events.lines, "Cannot publish figures: "
				      "No such file or directory"), 1);
	assert_int_equal(mkdir(missing, 0700), 0);
	wait_until(view(&v, getpid()));
	record(&v, "first");
	end_both(pool, b);
	assert_int_equal(rmdir(missing), 0);
	published_directory = directory;
}

/* No signal: the limit is looked at first. */
static void test_files_may_be_too_large(void **state)
{
	struct events events = EVENTS_INIT;
	struct rlimit before, small;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool_options o = publishing(b);
	struct seg_pool *pool;

	(void)state;
	o.log = recorder_log;
	o.log_ctx = &events.lines;
	getrlimit(RLIMIT_FSIZE, &before);
	small = before;
	small.rlim_cur = PUBLISHED_BYTES - 1;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	pool = make_pool_with(o);
	assert_int_equal(recorder_has(&events.lines, "File too large"), 1);
	assert_false(file_is_there(getpid()));
	end_both(pool, b);
	setrlimit(RLIMIT_FSIZE, &before);
}

/* What is in the way is no longer: a file, or a link to somebody's. */
static void test_an_old_file_makes_way(void **state)
{
	static struct view v;
	struct seg_budget *b = new_budget(MIB);
	char path[PUBLISHED_PATH_BYTES], victim[sizeof(directory) + 8];
	struct stat s;
	FILE *file;

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", directory);
	file = fopen(victim, "w");
	assert_non_null(file);
	fclose(file);
	published_path(path, getpid());
	assert_int_equal(symlink(victim, path), 0);
	struct seg_pool *pool = make_pool_with(publishing(b));

	assert_true(view(&v, getpid()));
	assert_int_equal(stat(victim, &s), 0);
	assert_int_equal(s.st_size, 0);
	end_both(pool, b);
	assert_int_equal(unlink(victim), 0);
}

/* ---- other processes ---- */

#ifndef SEG_TSAN

static struct seg_budget *forked_budget;
static struct seg_pool *forked_pool;

/* Its own file comes, and the parent's stays as it was. */
static int publish_in_child(void *ctx)
{
	static struct view mine, before, after;

	(void)ctx;
	require(view(&before, getppid()));
	wait_until(view(&mine, getpid()));
	record(&mine, "first");
	require(mine.head.process == (uint64_t)getpid());
	require(mine.head.process_start == os_process_start(getpid()));
	require(view(&after, getppid()));
	require(after.head.process == (uint64_t)getppid());
	require(mine.count[PUBLISHED_CACHE] == 0);
	require(seg_pool_destroy(forked_pool) == 0);
	require(!file_is_there(getpid()));
	return 0;
}

static void test_a_child_has_its_own(void **state)
{
	static struct view v;
	struct seg_cache *cache;

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	cache = named_cache("parent's", NULL);
	forked_budget = new_budget(MIB);
	forked_pool = make_pool_with(publishing(forked_budget));
	assert_int_equal(run_in_child(publish_in_child, NULL), 0);
	assert_true(view(&v, getpid()));
	assert_int_equal(v.head.process, getpid());
	record(&v, "parent's");
	end_both(forked_pool, forked_budget);
	assert_int_equal(seg_cache_destroy(cache), 0);
}

static int publish_and_exit(void *ctx)
{
	struct seg_pool_options o;

	forked_budget = named_budget("left", NULL);
	o = publishing(forked_budget);
	o.size = sizeof(o);
	require(seg_pool_create(&o, &forked_pool) == 0);
	require(file_is_there(getpid()));
	if (ctx)
		raise(SIGKILL);
	exit(0);
}

static unsigned files(void)
{
	char command[64];
	unsigned count = 0;
	FILE *list;

	snprintf(command, sizeof(command), "ls %s | wc -l", directory);
	list = popen(command, "r");
	require(list && fscanf(list, "%u", &count) == 1);
	pclose(list);
	return count;
}

static void test_an_exit_removes_it(void **state)
{
	(void)state;
	assert_int_equal(run_in_child(publish_and_exit, NULL), 0);
	assert_int_equal(files(), 0);
}

/* Then it says of whom it was. */
static void test_a_killed_process_leaves_it(void **state)
{
	static struct view v;
	char path[PUBLISHED_PATH_BYTES];
	pid_t child = fork();

	(void)state;
	if (!child)
		publish_and_exit(&child);
	wait_until(view(&v, child));
	wait_until(!os_process_start(child));	/* a zombie has none */
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(files(), 1);
	assert_true(view(&v, child));
	record(&v, "left");
	assert_int_not_equal(v.head.process_start, os_process_start(child));
	assert_int_equal(os_process_start(child), 0);
	published_path(path, child);
	assert_int_equal(unlink(path), 0);
}

#endif

static void test_when_a_process_began(void **state)
{
	(void)state;
	assert_true(os_process_start(getpid()) > 0);
	assert_int_equal(os_process_start(getpid()),
			 os_process_start(getpid()));
	assert_int_equal(os_process_start(-1), 0);
	assert_int_equal(os_process_start(0x7fffffff), 0);
	assert_true(os_process_namespace() > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_read_is_one_write),
		cmocka_unit_test(test_what_is_no_page),
		cmocka_unit_test(test_no_file_if_nobody_wants_one),
		cmocka_unit_test(test_it_says_what_the_statistics_say),
		cmocka_unit_test(test_until_the_last_that_wants_it),
		cmocka_unit_test(test_what_finds_no_room_is_counted),
		cmocka_unit_test(test_the_keeper_tries_again),
		cmocka_unit_test(test_files_may_be_too_large),
		cmocka_unit_test(test_an_old_file_makes_way),
		cmocka_unit_test(test_when_a_process_began),
#ifndef SEG_TSAN	/* it does not follow a child that has threads */
		cmocka_unit_test(test_a_child_has_its_own),
		cmocka_unit_test(test_an_exit_removes_it),
		cmocka_unit_test(test_a_killed_process_leaves_it),
#endif
	};
	int failed;

	if (!mkdtemp(directory))
		return 99;
	published_directory = directory;
	failed = run_group(tests);
	rmdir(directory);
	return failed;
}
