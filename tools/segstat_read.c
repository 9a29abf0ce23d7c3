/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See segstat.h.  The file may be anything: nothing in it is trusted beyond
 * its owner, who is this user, or anybody where root looks.
 */
#define _GNU_SOURCE
#include "segstat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "os.h"

enum { TRIES = 200, PAUSE_NS = 1000 * 1000 };

/* ---- one page ---- */

static int check_file(int fd)
{
	struct stat s;

	if (fstat(fd, &s))
		return -errno;
	if (geteuid() && s.st_uid != geteuid())
		return -EPERM;
	return S_ISREG(s.st_mode) && s.st_size == PUBLISHED_BYTES ? 0 : -EPROTO;
}

static int map_file(struct source *source)
{
	int ret = check_file(source->fd);
	void *page;

	if (ret)
		return ret;
	page = mmap(NULL, PUBLISHED_BYTES, PROT_READ, MAP_SHARED, source->fd,
		    0);
	if (page == MAP_FAILED)
		return -errno;
	source->page = page;
	return 0;
}

/* Words are whole, and each record's first struct lies in it. */
static bool record_is_valid(const struct published_record *r, uint64_t room)
{
	uint64_t head = sizeof(*r) / 8;

	return room > head && r->words > head && r->words <= room &&
	       !r->name[PUBLISHED_NAME_BYTES - 1];
}

static bool body_is_valid(struct snapshot *s)
{
	struct published_head *head = (void *)s->body;
	uint64_t at = sizeof(*head) / 8;
	uint64_t records = 0;

	head->version[sizeof(head->version) - 1] = '\0';
	for (; at < head->words; records++) {
		const struct published_record *r = (void *)(s->body + at);

		if (!record_is_valid(r, head->words - at))
			return false;
		at += r->words;
	}
	return records == head->records;
}

static sigjmp_buf cut_short;

static void leave_page(int signal_number)
{
	(void)signal_number;
	siglongjmp(cut_short, 1);
}

/* Its owner may make the file shorter while it is mapped. */
static int try_page(struct source *source, struct snapshot *snapshot)
{
	struct sigaction leave = { .sa_handler = leave_page }, before;
	int ret;

	sigaction(SIGBUS, &leave, &before);
	if (sigsetjmp(cut_short, 1))
		ret = -EPROTO;
	else
		ret = published_read(source->page, snapshot->body);
	sigaction(SIGBUS, &before, NULL);
	return ret;
}

/* A write takes microseconds, unless the writer is stopped. */
static int read_page(struct source *source, struct snapshot *snapshot)
{
	int ret = -EAGAIN;

	for (int i = 0; i < TRIES && ret == -EAGAIN; i++) {
		if (i)
			nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS },
				  NULL);
		ret = try_page(source, snapshot);
	}
	if (ret)
		return ret;
	return body_is_valid(snapshot) && snapshot_head(snapshot)->process ==
	       (uint64_t)source->process ? 0 : -EPROTO;
}

static bool has_ended(const struct source *source,
		      const struct snapshot *snapshot)
{
	return os_process_start(source->process) !=
	       snapshot_head(snapshot)->process_start;
}

static bool is_removed(const struct source *source)
{
	struct stat s;

	return fstat(source->fd, &s) || s.st_nlink == 0;
}

int source_read(struct source *source, struct snapshot *snapshot)
{
	int ret = read_page(source, snapshot);

	if (ret)
		return os_process_start(source->process) ? ret : -ESRCH;
	return has_ended(source, snapshot) || is_removed(source) ? -ESRCH : 0;
}

void source_close(struct source *source)
{
	if (source->page)
		munmap((void *)source->page, PUBLISHED_BYTES);
	if (source->fd >= 0)
		close(source->fd);
	*source = (struct source){ .fd = -1 };
}

int source_open(struct source *source, long process, struct snapshot *snapshot)
{
	char path[PUBLISHED_PATH_BYTES];
	int ret;

	published_path(path, process);
	*source = (struct source){ .process = process };
	/* Without waiting: it may be a FIFO. */
	source->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW |
			  O_CLOEXEC);
	if (source->fd < 0)
		return -errno;
	ret = map_file(source);
	if (!ret)
		ret = source_read(source, snapshot);
	/* If it was removed, what has its name now is another's. */
	if (ret == -ESRCH && !is_removed(source))
		unlink(path);
	if (ret)
		source_close(source);
	return ret;
}

/* ---- all of them ---- */

/* The number of the process whose file has this name; 0: none of ours. */
static long process_of(const char *name)
{
	char path[PUBLISHED_PATH_BYTES];
	const char *dot = strrchr(name, '.');
	long process = dot ? strtol(dot + 1, NULL, 10) : 0;

	published_path(path, process);
	return process > 0 && !strcmp(strrchr(path, '/') + 1, name) ? process :
								      0;
}

static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

/* The numbers, in order; the caller frees them. */
static long *find_processes(size_t *ret_count)
{
	DIR *directory = opendir(published_directory);
	long *found = NULL;
	struct dirent *entry;
	size_t count = 0;

	while (directory && (entry = readdir(directory)) != NULL) {
		long process = process_of(entry->d_name);
		long *more = process ? realloc(found, (count + 1) *
					       sizeof(*more)) : NULL;

		if (more) {
			found = more;
			found[count++] = process;
		}
	}
	if (directory)
		closedir(directory);
	if (count)
		qsort(found, count, sizeof(*found), compare);
	*ret_count = count;
	return found;
}

int sources_each(int (*fn)(void *ctx, struct source *source,
			   const struct snapshot *snapshot), void *ctx)
{
	static struct snapshot snapshot;
	size_t count;
	long *found = find_processes(&count);
	struct source source;
	int sum = 0;

	for (size_t i = 0; i < count; i++) {
		if (source_open(&source, found[i], &snapshot))
			continue;
		sum += fn(ctx, &source, &snapshot);
		source_close(&source);
	}
	free(found);
	return sum;
}

/* ---- what is in it ---- */

double snapshot_age(const struct snapshot *s)
{
	return (double)(int64_t)(os_now_ns() - snapshot_head(s)->written_ns) /
	       1e9;
}

const struct published_record *
snapshot_next(const struct snapshot *s, const struct published_record *r)
{
	const uint64_t *at = s->body + sizeof(struct published_head) / 8;

	if (r)
		at = (const uint64_t *)r + r->words;
	if (at >= s->body + snapshot_head(s)->words)
		return NULL;
	return (const struct published_record *)at;
}

const struct published_record *
snapshot_find(const struct snapshot *s, uint64_t id)
{
	const struct published_record *r = NULL;

	while ((r = snapshot_next(s, r)) != NULL)
		if (r->id == id)
			return r;
	return NULL;
}

/* The i-th struct, each as long as the first says; zeros if there is none. */
static void get_struct(const struct published_record *r, unsigned i, void *own,
		       size_t bytes)
{
	const char *first = (const char *)(r + 1);
	size_t room = r->words * 8 - sizeof(*r);
	size_t size;

	memcpy(&size, first, sizeof(size));
	memset(own, 0, bytes);
	if (size >= sizeof(size) && size <= room / (i + 1))
		memcpy(own, first + i * size, size < bytes ? size : bytes);
}

void record_figures(const struct published_record *r, struct figures *ret)
{
	*ret = (struct figures){ .budget.size = 0 };
	if (r->kind == PUBLISHED_BUDGET)
		get_struct(r, 0, &ret->budget, sizeof(ret->budget));
	if (r->kind == PUBLISHED_CACHE)
		get_struct(r, 0, &ret->cache, sizeof(ret->cache));
	if (r->kind != PUBLISHED_POOL)
		return;
	get_struct(r, 0, &ret->pool, sizeof(ret->pool));
	for (unsigned c = 0; c < SEG_CLASSES; c++)
		get_struct(r, c + 1, &ret->classes[c], sizeof(ret->pool));
}

void process_name(long process, char *name, size_t bytes)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%ld/comm", process);
	if (os_read_file(path, name, bytes) <= 0)
		snprintf(name, bytes, "?");
	name[strcspn(name, "\n")] = '\0';
}
