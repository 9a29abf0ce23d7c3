/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sixteen connections, each with a cache_size of 64 MiB, in as many threads.
 * First all of them read one file of 80 MiB, over and over; then each changes
 * a file of its own in one transaction that is larger than its part of the
 * budget.  Every row that is read is checked.
 *
 *   many DIRECTORY [own]    own: SQLite's own page cache, to compare
 *
 * With libseg the memory of the process has to stay within the budget and a
 * stated overhead, and nothing may fail with SQLITE_NOMEM.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libseg_sqlite.h"

#ifdef __SANITIZE_THREAD__
enum { SMALLER = 8 };		/* ThreadSanitizer takes its time */
#else
enum { SMALLER = 1 };
#endif

enum {
	CONNECTIONS = 16,
	CACHE_MIB = 64,
	BUDGET_MIB = 64 / SMALLER,
	ROWS = 80000 / SMALLER,	/* of 1000 bytes */
	OWN_ROWS = 12000 / SMALLER,
	/* What the process may have beside the budget: libseg's own, 8 % of it
	 * in pages of 4 KiB; stacks, statements and malloc's arenas. */
	OVERHEAD_MIB = BUDGET_MIB * 8 / 100 + CONNECTIONS + 4
};

static const char *directory;
static char shared_file[512];

static void fail(sqlite3 *db, const char *what)
{
	fprintf(stderr, "many: %s: %s\n", what, db ? sqlite3_errmsg(db) : "");
	exit(1);
}

static void run(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL))
		fail(db, sql);
}

static sqlite3 *open_file(const char *name)
{
	char sql[64];
	sqlite3 *db;

	if (sqlite3_open(name, &db))
		fail(db, name);
	sqlite3_busy_timeout(db, 60000);
	snprintf(sql, sizeof(sql), "PRAGMA cache_size=-%d", CACHE_MIB * 1024);
	run(db, sql);
	run(db, "PRAGMA synchronous=OFF");
	return db;
}

static void fill(sqlite3 *db, int rows, int salt)
{
	char sql[400];

	run(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT)");
	snprintf(sql, sizeof(sql), "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
		 "SELECT i+1 FROM n WHERE i<%d) INSERT INTO t SELECT i, i*7+%d,"
		 " printf('%%01000d', i) FROM n", rows, salt);
	run(db, sql);
}

/* Each row, in order or not. */
static void check(sqlite3 *db, int rows, int salt, unsigned step)
{
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(db, "SELECT a, b FROM t WHERE id=?", -1, &st,
			       NULL))
		fail(db, "prepare");
	for (unsigned i = 0; i < (unsigned)rows; i++) {
		int id = (int)(i * (unsigned long long)step % (unsigned)rows);

		sqlite3_bind_int(st, 1, ++id);
		if (sqlite3_step(st) != SQLITE_ROW)
			fail(db, "no row");
		if (sqlite3_column_int(st, 0) != id * 7 + salt ||
		    sqlite3_column_bytes(st, 1) != 1000 ||
		    atoi((const char *)sqlite3_column_text(st, 1) + 990) != id)
			fail(db, "a row is wrong");
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
}

static void change_own(int number, pthread_barrier_t *all)
{
	char name[600];
	sqlite3 *db;

	snprintf(name, sizeof(name), "%s/many-%d.db", directory, number);
	unlink(name);
	db = open_file(name);
	run(db, "BEGIN");
	fill(db, OWN_ROWS, number);
	pthread_barrier_wait(all);	/* all hold changed pages */
	run(db, "UPDATE t SET a=a+1");
	check(db, OWN_ROWS, number + 1, 7);
	run(db, "COMMIT");
	check(db, OWN_ROWS, number + 1, 1);
	sqlite3_close(db);
	unlink(name);
}

static pthread_barrier_t barrier;

static void *connection(void *arg)
{
	int number = (int)(long)arg;
	sqlite3 *db = open_file(shared_file);

	check(db, ROWS, 0, number % 2 ? 7919 : 1);
	pthread_barrier_wait(&barrier);	/* with its cache as full as it gets */
	change_own(number, &barrier);
	sqlite3_close(db);
	return NULL;
}

static long status_kib(const char *name)
{
	char line[200];
	long value = 0;
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			value = atol(line + strlen(name) + 1);
	if (file)
		fclose(file);
	return value;
}

static void run_all(void)
{
	pthread_t thread[CONNECTIONS];

	pthread_barrier_init(&barrier, NULL, CONNECTIONS);
	for (long i = 0; i < CONNECTIONS; i++)
		if (pthread_create(&thread[i], NULL, connection, (void *)i))
			fail(NULL, "no thread");
	for (int i = 0; i < CONNECTIONS; i++)
		pthread_join(thread[i], NULL);
}

static int judge(long before_kib)
{
	struct libseg_sqlite_stats s = { .size = sizeof(s) };
	long more = (status_kib("VmHWM") - before_kib) / 1024;

	printf("resident memory: at most %ld MiB more than at the start\n",
	       more);
	if (libseg_sqlite_stats(&s))
		return 0;
	printf("charged: at most %llu of %llu KiB; %llu evictions, %llu "
	       "recycled, %llu refusals; libseg's own: %llu KiB\n",
	       (unsigned long long)s.peak_charged_bytes / 1024,
	       (unsigned long long)s.budget_bytes / 1024,
	       (unsigned long long)s.evictions_total,
	       (unsigned long long)s.recycled_total,
	       (unsigned long long)s.refusals_total,
	       (unsigned long long)s.metadata_bytes / 1024);
	/* The sanitizer's own memory can't be told apart. */
	if ((SMALLER > 1 || more <= BUDGET_MIB + OVERHEAD_MIB) &&
	    !s.refusals_total)
		return 0;
	printf("FAIL: more than %d + %d MiB, or refusals\n", BUDGET_MIB,
	       OVERHEAD_MIB);
	return 1;
}

int main(int argc, char **argv)
{
	struct libseg_sqlite_options o = {
		.size = sizeof(o), .budget_bytes = (uint64_t)BUDGET_MIB << 20
	};
	long before_kib;
	sqlite3 *db;
	int ret;

	if (argc < 2)
		return 2;
	directory = argv[1];
	if (argc > 2 ? libseg_sqlite_remove() : libseg_sqlite_install(&o))
		fail(NULL, "not installed");
	snprintf(shared_file, sizeof(shared_file), "%s/many.db", directory);
	unlink(shared_file);
	before_kib = status_kib("VmRSS");
	db = open_file(shared_file);
	run(db, "PRAGMA cache_size=-2000");
	fill(db, ROWS, 0);
	sqlite3_close(db);
	run_all();
	ret = judge(before_kib);
	unlink(shared_file);
	return ret || sqlite3_shutdown();
}
