"""The parts of the bench of previews: each measures one thing and what it is compared to, and prints its rows. Standard
library only."""

import itertools
import select
import threading
import time

from common import Session, in_words, median, p99, ratio, row, say, timed, verifier


def bare_hand_outs(bench):
    """Two functions: the milliseconds of a hand-out by SQL with and without setting a verifier."""
    session = bench.server.operator()
    places = []
    for _ in range(4):
        name = next(bench.names)
        bench.psql(bench.bare.make(name))
        places.append(name)
    time.sleep(0.5)
    rounds = itertools.count()

    def hand_out(with_verifier):
        at = next(rounds) % len(places)
        old, new = places[at], next(bench.names)
        places[at] = new
        sql = f"ALTER DATABASE bare_{old} RENAME TO bare_{new};ALTER ROLE bare_app_{old} RENAME TO bare_app_{new}"
        if with_verifier:
            sql += f";ALTER ROLE bare_app_{new} PASSWORD '{verifier(new)}'"
        return timed(lambda: session.query(sql))[0]

    def end():
        session.close()
        for name in places:
            bench.psql(bench.bare.drop(name))

    return hand_out, end


def warm(bench, size):
    bench.start(size)
    hand_out, end = bare_hand_outs(bench)
    goal_on_disk = "" if "memory" in bench.label else "≤ 3 × setting the verifier"
    for what, numbers in [("the next number", None), ("a number that was not foreseen", 1000)]:
        bench.wait_pool(size)
        chosen = bench.numbers(size)
        if numbers:
            chosen = [chosen[0] + numbers * (n + 1) for n in range(size)]
            bench.next = chosen[-1] + 1
        ours, with_it, without = [], [], []
        for number in chosen:
            ours.append(timed(lambda: bench.created(number))[0])
            with_it.append(hand_out(True))
            without.append(hand_out(False))
        row(f"warm `ensure`, {what}, {bench.label}", f"{in_words(ours)} ms, p99 {p99(ours):.1f} ms",
            f"bare SQL {in_words(with_it)} ms, p99 {p99(with_it):.1f} ms; its verifier set before: {in_words(without)} ms",
            f"{ratio(ours, with_it)}; {ratio(ours, without)}", goal_on_disk or "p50 ≤ 8 ms, p99 ≤ 25 ms")
        bench.steps("preview.ensure", size)
        if not numbers:
            existing(bench, chosen)
        delete_burst(bench, chosen, numbers is None)
    for clients in (1, 4):
        bench.wait_pool(size)
        chosen = bench.numbers(size)
        took, failed = bench.at_once([lambda kept, n=n: kept.ensure(n) for n in chosen], clients)
        row(f"warm `ensure` until {size} are gone, {clients} client{'s' * (clients > 1)}, {bench.label}",
            f"{size / took:.0f} /s, {failed} failed", "", "", "≥ 120 /s")
        delete_burst(bench, chosen, False)
    end()
    bench.start(0)


def delete_burst(bench, numbers, tell):
    """Asks for the end of them all, one after the other without waiting, and then waits until they are gone."""
    took = [timed(lambda: bench.kept.delete(number, wait=False))[0] for number in numbers]
    if tell:
        row(f"`DELETE …?wait=false`, {len(took)} in a row, {bench.label}", f"{in_words(took)} ms, p99 {p99(took):.1f} ms", "",
            "", "p50 ≤ 10 ms (alone)")
    while bench.kept.call("GET", "/v1/previews")["items"]:
        time.sleep(0.1)


def existing(bench, numbers):
    """An `ensure` of what is there."""
    took, begun, server = [], [], bench.server
    for number in (numbers * 10)[:300]:
        took.append(timed(lambda: bench.kept.ensure(number))[0])
        login = ("127.0.0.1", server.port, f"medusa_pr_app_{number}", None, f"medusa_pr_{number}")
        spent, session = timed(lambda: Session(*login))
        session.close()
        begun.append(spent)
    row(f"`ensure` of what exists, {bench.label}", f"{in_words(took)} ms, p99 {p99(took):.1f} ms",
        f"beginning a login, which it does to see whether the password is ours: {in_words(begun)} ms", ratio(took, begun),
        "p50 ≤ 3 ms")


def in_turn(round_, ours, theirs):
    """Milliseconds of the two; which one comes first changes with every round, as the second may pay for the first."""
    if round_ % 2:
        other = theirs()
        return timed(ours)[0], other
    one = timed(ours)[0]
    return one, theirs()


def cold(bench, rounds, goal="≤ 1.15 ×"):
    """A cold `ensure` and the same by psql, so many times."""
    ours, theirs, bare = [], [], []
    for n in range(rounds + 1):
        number, name = bench.numbers(1)[0], next(bench.names)
        one, other = in_turn(n, lambda: bench.created(number), lambda: bench.psql(bench.bare.make(name)))
        say(f"{bench.label} {n}: cold ensure {one:.0f} ms, psql {other:.0f} ms")
        # The first one meets a server that has everything still to read.
        if n:
            ours.append(one)
            theirs.append(other)
            bare.append(bench.psql("SELECT 1;\n\\connect bare_" + name + "\n"))
        bench.kept.delete(number)
        bench.psql(bench.bare.drop(name))
    row(f"cold `ensure`, {bench.label}", f"{in_words(ours)} ms",
        f"psql {in_words(theirs)} ms (of it the process and two logins {in_words(bare)} ms)", ratio(ours, theirs), goal)
    bench.steps("preview.ensure", rounds)


def crowd(bench, count, rounds=4):
    """Many cold `ensure`s at once, and the same by two psql processes. They take turns at being the first: whoever comes
    first on a server pays for its log files."""
    ours, theirs, failures, met = [], [], 0, False
    for n in range(rounds):
        def mine():
            nonlocal failures
            numbers = bench.numbers(count)
            took, failed = bench.at_once([lambda kept, n=n: kept.ensure(n) for n in numbers], count)
            failures += failed
            bench.steps("preview.ensure", count)
            bench.remove(numbers)
            return count / took

        def others():
            nonlocal met
            took, statuses = bare_workers(bench, count)
            met |= statuses != [0, 0]
            return count / took

        order = [(mine, ours), (others, theirs)]
        for measure, kept in order if n % 2 else reversed(order):
            kept.append(measure())
        say(f"{bench.label}: {count} at once {ours[-1]:.1f} /s, two workers {theirs[-1]:.1f} /s")
    row(f"{count} cold `ensure`s at once, {bench.label}",
        f"{median(ours):.1f} /s, {rounds * count - failures} of {rounds * count} succeed",
        f"two psql workers {median(theirs):.1f} /s" + (" (a worker failed: not comparable)" if met else ""),
        f"{median(ours) / median(theirs):.2f} ×", "≥ 0.9 ×, all succeed")


def bare_workers(bench, count):
    """Seconds that two psql processes take for so many clones, and how they ended."""
    names = [[next(bench.names) for _ in range(count // 2)] for _ in range(2)]
    scripts = [bench.server.script(f"worker-{n}.sql", "".join(bench.bare.make(name) for name in mine))
               for n, mine in enumerate(names)]

    def workers():
        return [worker.wait() for worker in [bench.server.psql(script) for script in scripts]]

    took, statuses = timed(workers)
    for mine in names:
        # A worker that met another's change has not made them all.
        bench.server.psql(bench.server.script("drop.sql", "".join(
            bench.bare.drop(name).replace("DATABASE ", "DATABASE IF EXISTS ").replace("ROLE ", "ROLE IF EXISTS ")
            for name in mine))).wait()
    return took / 1000, statuses


def delete(bench, rounds):
    alone, ours, theirs = [], [], []
    for n in range(rounds):
        first, second = bench.numbers(2)
        name = next(bench.names)
        for number in (first, second):
            bench.created(number)
        bench.psql(bench.bare.make(name))
        took, answer = timed(lambda: bench.kept.delete(first, wait=False))
        alone.append(took)
        while bench.kept.call("GET", f"/v1/operations/{answer['id']}")["state"] not in ("succeeded", "failed"):
            time.sleep(0.02)
        one, other = in_turn(n, lambda: bench.kept.delete(second), lambda: bench.psql(bench.bare.drop(name)))
        ours.append(one)
        theirs.append(other)
    row(f"`DELETE …?wait=false` answered, {bench.label}", f"{in_words(alone)} ms", "", "", "p50 ≤ 10 ms")
    row(f"`DELETE …?wait=true`, {bench.label}", f"{in_words(ours)} ms", f"psql {in_words(theirs)} ms", ratio(ours, theirs),
        "≤ 1.2 ×")
    bench.steps("preview.delete", rounds * 2)


def sessions(bench, rounds, count):
    """How long sessions of the app live after their end was asked for."""
    last, whole, bare = [], [], []
    for _ in range(rounds):
        number, name = bench.numbers(1)[0], next(bench.names)
        made = bench.kept.ensure(number)
        bench.psql(bench.bare.make(name))
        ways = [((made["app_user"], made["app_password"], made["db_name"]), lambda: bench.kept.delete(number)),
                ((f"bare_app_{name}", f"bare_app_{name}", f"bare_{name}"), lambda: bench.psql(bench.bare.drop(name)))]
        for way, (login, drop) in enumerate(ways):
            open_ = [Session("127.0.0.1", bench.server.port, *login) for _ in range(count)]
            begin, ends = time.perf_counter(), []

            def watch():
                poll, alive = select.epoll(), {one.socket.fileno(): one for one in open_}
                for number_ in alive:
                    poll.register(number_, select.EPOLLIN | select.EPOLLHUP)
                while alive:
                    for number_, _ in poll.poll():
                        if alive[number_].socket.recv(4096) == b"":
                            poll.unregister(number_)
                            del alive[number_]
                ends.append((time.perf_counter() - begin) * 1000)
                poll.close()

            watcher = threading.Thread(target=watch)
            watcher.start()
            took = timed(drop)[0]
            watcher.join()
            for one in open_:
                one.close()
            (bare if way else whole).append(took)
            if not way:
                last.append(ends[0])
    row(f"{count} sessions cut after a `DELETE`, {bench.label}", f"{in_words(last)} ms", "", "", "≤ 150 ms")
    row(f"the whole of it with `?wait=true`, {bench.label}", f"{in_words(whole)} ms", f"psql {in_words(bare)} ms",
        ratio(whole, bare), "≤ 1.2 ×")
