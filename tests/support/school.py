"""Two values of an application, one of which refers to the other: what shared references are tried with."""

from sessiond.values import register


class School:
    def __init__(self, name: str) -> None:
        self.name = name


class Student:
    def __init__(self, name: str, school: School) -> None:
        self.name = name
        self.school = school


register(School, "tests.school", lambda school: school.name, School)
register(
    Student, "tests.student", lambda student: [student.name, student.school], lambda plain: Student(*plain)
)
