/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See placement.h. */
#define _GNU_SOURCE
#include "placement.h"

#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUP "/sys/fs/cgroup/tests/"

enum { PAGE = 4096, BATCH = 512 };

static void must(bool done, const char *what)
{
	if (done)
		return;
	perror(what);
	abort();
}

/* ------------------------------------------------------------------- nodes */

static bool has_cpus(int node)
{
	struct bitmask *cpus = numa_allocate_cpumask();
	bool has = !numa_node_to_cpus(node, cpus) && numa_bitmask_weight(cpus);

	numa_bitmask_free(cpus);
	return has;
}

void machine_look(struct machine *m)
{
	struct bitmask *nodes = numa_get_mems_allowed();

	*m = (struct machine){ .bare = -1 };
	for (int node = 0; node < MACHINE_NODES; node++) {
		if (!numa_bitmask_isbitset(nodes, (unsigned)node))
			continue;
		m->id[m->count++] = node;
		if (has_cpus(node))
			m->cpu_node[m->busy++] = node;
		else
			m->bare = node;
	}
	numa_bitmask_free(nodes);
}

bool machine_has(const struct machine *m, int node)
{
	for (int i = 0; i < m->count; i++)
		if (m->id[i] == node)
			return true;
	return false;
}

int machine_nearest(const struct machine *m, int node)
{
	int best = -1;

	for (int i = 0; i < m->count; i++)
		if (m->id[i] != node &&
		    (best < 0 || numa_distance(node, m->id[i]) <
				 numa_distance(node, best)))
			best = m->id[i];
	return best;
}

void machine_run_on(int node)
{
	must(!numa_run_on_node(node), "numa_run_on_node");
}

/* ------------------------------------------------------------------- pages */

/* node < 0: only asks. */
static void move(char *base, size_t count, int node, int *ret_status)
{
	void *pages[BATCH];
	int nodes[BATCH];

	for (size_t i = 0; i < count; i++) {
		pages[i] = base + i * PAGE;
		nodes[i] = node;
	}
	must(move_pages(0, count, pages, node < 0 ? NULL : nodes, ret_status,
			MPOL_MF_MOVE) >= 0 || errno == ENOMEM, "move_pages");
}

static size_t batch_of(size_t bytes, size_t at)
{
	return bytes - at < BATCH * PAGE ? (bytes - at) / PAGE : BATCH;
}

void pages_count(void *base, size_t bytes, int node, struct pages *sum)
{
	int status[BATCH];

	for (size_t at = 0; at < bytes; at += BATCH * PAGE) {
		size_t count = batch_of(bytes, at);

		move((char *)base + at, count, -1, status);
		for (size_t i = 0; i < count; i++) {
			sum->there += status[i] == node;
			sum->elsewhere += status[i] >= 0 && status[i] != node;
			sum->absent += status[i] < 0;
		}
	}
}

int pages_node(void *base, size_t bytes)
{
	struct pages sum = { 0 };
	int status;

	move(base, 1, -1, &status);
	if (status < 0)
		return -1;
	pages_count(base, bytes, status, &sum);
	return sum.there == bytes / PAGE ? status : -1;
}

bool pages_move(void *base, size_t bytes, int node)
{
	int status[BATCH];

	for (size_t at = 0; at < bytes; at += BATCH * PAGE)
		move((char *)base + at, batch_of(bytes, at), node, status);
	return pages_node(base, bytes) == node;
}

/* ------------------------------------------------------------- a full node */

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0, path);
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

/* Without an end by the kernel: see mbind() and move_pages(). */
static bool eat(size_t bytes, int node)
{
	unsigned long mask = 1ul << node;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(memory != MAP_FAILED, "mmap");
	must(!mbind(memory, bytes, MPOL_PREFERRED, &mask, 8 * sizeof(mask), 0),
	     "mbind");
	memset(memory, 1, bytes);
	if (pages_node(memory, bytes) == node ||
	    pages_move(memory, bytes, node))
		return true;
	munmap(memory, bytes);
	return false;
}

static void eat_all(int node)
{
	static const size_t bites[] = { 2 << 20, 64 << 10, PAGE };

	for (int i = 0; i < 3; i++)
		while (eat(bites[i], node))
			;
}

/* Eats once for each byte that it gets, and ends when there are no more. */
_Noreturn static void be_hog(int node, int orders, int done)
{
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	put("/proc/self/oom_score_adj", "1000");
	while (read(orders, &byte, 1) == 1) {
		eat_all(node);
		must(write(done, &byte, 1) == 1, "write");
	}
	_exit(0);
}

static pid_t hog;	/* 0: there is none */
static int orders_pipe, done_pipe;

void hog_start(int node)
{
	int orders[2], done[2];

	signal(SIGPIPE, SIG_IGN);
	must(!pipe(orders) && !pipe(done), "pipe");
	hog = fork();
	must(hog >= 0, "fork");
	if (!hog) {
		close(orders[1]);
		close(done[0]);
		be_hog(node, orders[0], done[1]);
	}
	close(orders[0]);
	close(done[1]);
	orders_pipe = orders[1];
	done_pipe = done[0];
	hog_eat();
}

void hog_eat(void)
{
	char byte = 0;

	must(write(orders_pipe, &byte, 1) == 1 &&
	     read(done_pipe, &byte, 1) == 1, "the hog is gone");
}

bool hog_end(void)
{
	int status = 0;
	bool ended;

	if (!hog)
		return true;
	close(orders_pipe);
	close(done_pipe);
	ended = waitpid(hog, &status, 0) == hog && status == 0;
	hog = 0;
	return ended;
}

uint64_t oom_kills(void)
{
	FILE *file = fopen("/proc/vmstat", "r");
	unsigned long long kills = 0;
	char line[100];

	must(file != NULL, "/proc/vmstat");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "oom_kill %llu", &kills) == 1)
			break;
	fclose(file);
	return kills;
}

/* ------------------------------------------------------------------ cpusets */

bool cpuset_allow(const struct machine *m, int only_node)
{
	char text[4 * MACHINE_NODES] = "", *at = text;

	if (access(GROUP "cpuset.mems", W_OK))
		return false;
	for (int i = 0; i < m->count; i++)
		if (only_node < 0 || m->id[i] == only_node)
			at += sprintf(at, at == text ? "%d" : ",%d", m->id[i]);
	put(GROUP "cpuset.mems", text);
	put(GROUP "cgroup.procs", "0");
	return true;
}
